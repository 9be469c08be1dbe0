"""Sessions: looking, forcing, injecting, muting, saving."""

import numpy
import pytest
from conftest import PROMPT

import brillm


@pytest.mark.parametrize("name", ["model", "transformer"])
def test_a_session_takes_the_steps_of_a_generation(request, name):
    model = request.getfixturevalue(name)
    expected = model.generate(PROMPT, temperature=0.0, tokens=12)
    expected.collect()
    session = model.session(PROMPT)
    prompt = len(session)
    for token in expected.ids:
        energies, logits = session.look()
        assert energies.shape == logits.shape == (model.vocabulary,) and energies.dtype == numpy.float32
        assert session.log_probability(token) == pytest.approx(numpy.log(session.probabilities()[token]), abs=1e-5)
        assert session.step() == token == session.token
    assert session.ids[prompt:] == expected.ids and len(session) == prompt + 12
    assert session.text.endswith(expected.text.strip()[-10:])


@pytest.mark.parametrize("name", ["model", "transformer"])
def test_muted_tokens_are_never_chosen(request, name):
    model = request.getfixturevalue(name)
    session = model.session(PROMPT)
    first = session.look()[1].argsort()[::-1][:3]
    session.mute(first[0])
    assert session.probabilities()[first[0]] == 0.0
    assert session.look()[1].argmax() == first[1]
    session.scale(int(first[2]), 1e6)
    assert session.step() == first[2]
    for _ in range(20):
        assert session.step() != first[0]


@pytest.mark.parametrize("name", ["model", "transformer"])
def test_a_muted_edge_closes_one_way_to_a_token(request, name):
    model = request.getfixturevalue(name)
    session = model.session(PROMPT)
    source, target = session.token, int(session.look()[1].argmax())
    other = (source + 1) % model.vocabulary
    session.mute(target, source=other)
    assert session.look()[1].argmax() == target
    session.mute(target, source=source)
    assert session.look()[1].argmax() != target
    session.force(target)
    assert session.token == target


def test_injected_energy_decides_one_step(model):
    session, plain = model.session(PROMPT), model.session(PROMPT)
    token = model.find(" dragon") or model.encode(" dragon")[-1]
    session.inject(token, 1e6)
    assert session.step() == token
    plain.force(token)
    assert session.step() == plain.step()


def test_a_saved_session_continues(model):
    session = model.session(PROMPT, temperature=0.9, seed=3)
    for _ in range(5):
        session.step()
    state = session.save()
    assert isinstance(state, bytes)
    restored = model.restore(state, temperature=0.9, seed=3)
    assert len(restored) == len(session) and restored.token == session.token
    assert [restored.step() for _ in range(8)] == [session.step() for _ in range(8)]
    more = model.session(" and", state=state)
    assert len(more) == len(model.encode(PROMPT)) + 5 + len(model.encode(" and"))


def test_what_cannot_be_saved_or_restored_is_refused(model, transformer):
    with pytest.raises(brillm.UnsupportedError, match="cannot be saved"):
        transformer.session(PROMPT).save()
    with pytest.raises(brillm.FormatError, match="not a saved session"):
        model.restore(b"{}")
    with pytest.raises(brillm.FormatError):
        model.restore(b"\xff\x00")


def test_contributions_add_up(model, transformer):
    session = model.session(PROMPT, explain=True)
    token = int(session.look()[1].argmax())
    split = session.contributions(token)
    assert sum(entry["value"] for entry in split["entries"]) == pytest.approx(split["norm"], rel=1e-5)
    assert transformer.session(PROMPT).contributions(token) is None
    with pytest.raises(brillm.UnsupportedError):
        model.session(PROMPT).contributions(token)


def test_tokens_are_named_by_their_text(model):
    session = model.session(PROMPT)
    with pytest.raises(brillm.InputError, match="no token has the text"):
        session.force("not one token at all")
    token = next(token for token in range(model.vocabulary) if model.find(model.tokens([token])[0]["text"] or "") == token)
    assert session.force(model.tokens([token])[0]["text"]) == token
