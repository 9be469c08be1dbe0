"""The notebook of the examples runs, and shows what it says."""

import pytest
from conftest import ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "engine/python/examples").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs before committing"
    client = NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    results = [
        output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output
    ]
    html = [data["text/html"] for data in results if "text/html" in data]
    # The learning curve, the table of the model, the picture of the path.
    assert sum("<svg" in text for text in html) == 2 and sum("<table" in text for text in html) == 1
    texts = [data["text/plain"] for data in results]
    assert texts[0].endswith("True)"), texts[0]
    # Muting the chosen token changes the prediction.
    before, muted = eval(next(text for text in texts if text.startswith("({")))
    assert next(iter(before)) != next(iter(muted)) and next(iter(before)) not in muted
