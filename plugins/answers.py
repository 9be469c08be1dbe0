#!/usr/bin/env python3
"""Write texts with known answers, as `brillm probe` reads them: {"prompt", "question", "answer", "label"} a line.

    python3 plugins/answers.py [--seen] lambada LAMBADA.jsonl [COUNT] > lambada.jsonl
    python3 plugins/answers.py [--seen] retrieval HAYSTACK.txt [COUNT] [WORDS,…] > retrieval.jsonl

`lambada` takes the last word of each text (objects {"text"}; Paperno et al. 2016). `retrieval` plants a number in the first tenth of a
piece of text and asks for it at the end; WORDS are the words between them, and the label. The question, and the last ten words before
the answer of `lambada`, follow the prompt token by token: what is evicted after the prompt is evicted without them. With --seen they end the prompt.
"""
import json
import random
import sys


def lambada(path, count=200):
    with open(path, encoding="utf-8") as lines:
        for line in list(lines)[: int(count)]:
            *words, word = json.loads(line)["text"].split(" ")
            yield {"prompt": " ".join(words[:-10]), "question": " " + " ".join(words[-10:]), "answer": " " + word}


def retrieval(path, count=10, lengths="350,700,1400,2800,5600"):
    with open(path, encoding="utf-8") as text:
        words = text.read().split()
    draw = random.Random(1)
    for length in map(int, lengths.split(",")):
        for _ in range(int(count)):
            start = draw.randrange(len(words) - length - length // 10)
            before = words[start : start + length // 10]
            after = words[start + length // 10 : start + length // 10 + length]
            key = str(draw.randrange(10000, 100000))
            prompt = f"{' '.join(before)}\n\nThe secret number is {key}. Remember it: {key} is the secret number.\n\n"
            prompt += " ".join(after)
            question = "\n\nWhat is the secret number? The secret number is"
            yield {"prompt": prompt, "question": question, "answer": f" {key}", "label": f"{length} words"}


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--seen"]
    kinds = {"lambada": lambada, "retrieval": retrieval}
    if len(arguments) < 2 or arguments[0] not in kinds:
        sys.exit(__doc__)
    for record in kinds[arguments[0]](*arguments[1:]):
        if "--seen" in sys.argv:
            record["prompt"] += record.pop("question")
        print(json.dumps(record))
