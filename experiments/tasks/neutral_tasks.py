"""What the task files here call by `!function`, for lm-evaluation-harness; neutral has it in Rust."""

import re


def _clean(text):
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def hellaswag(documents):
    """The context, the endings and the number of the right one."""

    def process(document):
        context = document["ctx_a"] + " " + document["ctx_b"].capitalize()
        return {
            "query": _clean(f"{document['activity_label']}: {context}"),
            "choices": [_clean(ending) for ending in document["endings"]],
            "gold": int(document["label"]),
        }

    return documents.map(process)


def arc_multilingual(documents):
    """The question, the options that are there, and the number of the right one."""

    def process(document):
        options = [document[f"option_{letter}"] for letter in "abcde"]
        return {
            "query": f"Question: {_clean(document['instruction'])}\nAnswer:",
            "choices": [_clean(option) for option in options if option],
            "gold": "ABCDE".index(document["answer"]),
        }

    return documents.map(process)
