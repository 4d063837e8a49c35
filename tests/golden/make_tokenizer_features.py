#!/usr/bin/env python3
"""Writes tokenizer_features.jsonl.gz: small tokenizer.json files of random parts, and what Hugging Face's `tokenizers` (0.23.3
when the file was made) answers with them. `pip install tokenizers`, then run.

First line: the BPE models. Every other one: {"model": which of them, "changes": {...} to it, "bytes": add byte tokens,
"rest": the file's other parts, "cases": [{"text", "ids", "special" (with special tokens added), "decoded", "shown" (special
tokens hidden)} or without a text]}.
"""
import copy
import gzip
import json
import os
import random

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

FILES, CASES, SEED = 160, 12, 20261122
TEXTS = [
    "the quick brown fox jumps over the lazy dog. The QUICK brown-fox, it's 12345 and 67!",
    "déjà vu, naïve café; Straße über Ångström", "日本語のテキスト、漢字かな交じり文。カタカナ・ひらがな", "Привет мир, как дела?",
    "def f(x):\n    return x ** 2  # comment\n\n", "▁▁ spaces   and\ttabs\r\n", "I've we'll you're THEY'D don't",
    "1 22 333 4444 55555 ½ ٣", "a b c d e f g h i j k l m n o p q r s t u v w x y z",
] * 3
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
EXPRESSIONS = [
    r"\p{N}{1,3}", r"\p{L}+", r"\s+", r"[^\s\p{L}\p{N}]+", "x*", r"\w+|[^\w\s]+", r"[a-z&&[^aeiou]]+", r"(?=\p{Lu})", r"^.", r".$",
    r"\d", r"\h+", r"(?<=a).", r"\p{Han}+|\p{Hiragana}", r"[^\S\n]+", r"\S+", r"(?i:THE|\x{66}ox)", r"\W", r"a{,2}",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]
WORDS = ("the quick brown fox jumps over lazy dog it's don't THEY'D I've 12345 67 ½ ٣ é E\u0301 ﬁ ABC Straße Å Ａ Ǆ İ Σ ς 日本語 漢字 "
         "カナ・ 、 <s> </s> <｜User｜> [INST] <0x0A> n't fox  ▁ ▁▁ \u180e \u200d \u00a0 \u3000 😀 𝔘 \u0301 x a_b # ** \n \n\n \r\n \t").split(" ")
ADDED = ["<s>", "</s>", "<｜User｜>", "[INST]", "the", "  ", "é", "E\u0301", "ABC", "<0x0A>", " x", "fox ", "n't", "\n\n", "日本", "▁▁", "ﬁ"]
pick = random.Random(SEED)


def chance(p):
    return pick.random() < p


def trained(byte_level, words):
    tokenizer = Tokenizer(models.BPE())
    alphabet = []
    if byte_level:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        if words:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=400 if byte_level else 320, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return json.loads(tokenizer.to_str())["model"]


def normalizer():
    def one():
        return pick.choice([
            {"type": pick.choice(["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"])},
            {"type": "Strip", "strip_left": chance(0.5), "strip_right": chance(0.5)},
            {"type": "Prepend", "prepend": pick.choice(["▁", " ", "x"])},
            {"type": "Replace", "pattern": {"String": pick.choice([" ", "a", "  ", "th"])}, "content": pick.choice(["▁", "", "ZZ"])},
            {"type": "Replace", "pattern": {"Regex": pick.choice([" {2,}", r"\s+", "[aeiou]", r"\d"])},
             "content": pick.choice(["▁", "", "_"])}])
    if chance(0.3):
        return None
    return one() if chance(0.5) else {"type": "Sequence", "normalizers": [one() for _ in range(pick.randrange(4))]}


def pre_tokenizer(byte_level):
    def one():
        split = {"type": "Split", "behavior": pick.choice(BEHAVIORS), "invert": chance(0.3)}
        return pick.choice([
            {**split, "pattern": {"Regex": pick.choice(EXPRESSIONS)}},
            {**split, "pattern": {"Regex": pick.choice(EXPRESSIONS)}},
            {**split, "pattern": {"String": pick.choice([" ", "a", "the", "▁", "\n"])}},
            {"type": "Digits", "individual_digits": chance(0.5)},
            {"type": "Punctuation", "behavior": pick.choice(BEHAVIORS)},
            {"type": pick.choice(["Whitespace", "WhitespaceSplit"])}])
    steps = [one() for _ in range(pick.choice([0, 0, 1, 1, 2, 3]))]
    if byte_level:
        steps.append({"type": "ByteLevel", "add_prefix_space": chance(0.4), "trim_offsets": True, "use_regex": chance(0.5)})
    elif chance(0.5):
        scheme = pick.choice(["always", "never", "first"])
        at = 0 if scheme == "first" else pick.randrange(len(steps) + 1)
        steps.insert(at, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": chance(0.5)})
    if not steps:
        return None
    return steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}


def decoder(byte_level):
    if byte_level and chance(0.8):
        return {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    spaces = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": pick.choice([" ", "a"]), "start": pick.randrange(3), "stop": 0}
    fallback, fuse = {"type": "ByteFallback"}, {"type": "Fuse"}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": pick.choice(["always", "never", "first"]), "split": True}
    steps = pick.choice([[spaces, fallback, fuse], [spaces, fallback, fuse, strip], [fallback], [spaces, strip, fuse]])
    return pick.choice([None, spaces, metaspace, fuse] + 4 * [{"type": "Sequence", "decoders": steps}])


def added_tokens(vocab):
    tokens, following = [], max(vocab.values()) + 1
    for content in pick.sample(ADDED, pick.randrange(7)):
        number = vocab.get(content)
        if number is None:
            number, following = following, following + 1
        special = chance(0.5)
        tokens.append({"id": number, "content": content, "single_word": chance(0.2), "lstrip": chance(0.25),
                       "rstrip": chance(0.25), "normalized": not special and chance(0.7), "special": special})
    return tokens


def post_processor(tokens):
    special = [token for token in tokens if token["special"]]
    if not special or chance(0.4):
        return None
    token = pick.choice(special)
    around, text = {"SpecialToken": {"id": token["content"], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return {"type": "TemplateProcessing", "single": pick.choice([[around, text], [text, around], [around, text, around]]),
            "pair": [text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token["content"]: {"id": token["content"], "ids": [token["id"]], "tokens": [token["content"]]}}}


def cases_of(tokenizer, vocab):
    def decoded(ids):
        return {"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                "shown": tokenizer.decode(ids, skip_special_tokens=True)}
    cases = []
    for _ in range(CASES):
        text = "".join(pick.choice(WORDS) + pick.choice(["", " ", " ", "  "]) for _ in range(pick.randrange(14)))
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        cases.append({"text": text, **decoded(ids), "special": tokenizer.encode(text, add_special_tokens=True).ids})
    awkward = [vocab[token] for token in ("<0x41>", "<0xE2>", "<0x82>", "<0xAC>", "<0xC3>", "<0xA9>", "<0xFF>") if token in vocab]
    for _ in range(CASES // 3):
        cases.append(decoded([pick.choice(awkward) if awkward and chance(0.5) else pick.randrange(max(vocab.values()) + 1)
                              for _ in range(pick.randrange(1, 12))]))
    return cases


def add_bytes(vocab):
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = max(vocab.values()) + 1


def main():
    all_models = [trained(byte_level, words) for byte_level in (False, True) for words in (False, True)]
    lines = [all_models]
    while len(lines) <= FILES:
        which, changes = pick.randrange(4), {"ignore_merges": chance(0.3)}
        byte_level = which >= 2
        fallback = not byte_level and chance(0.6)
        if not byte_level:
            changes.update({"byte_fallback": fallback, "fuse_unk": chance(0.5), "unk_token": pick.choice([None, "x"])})
        model = copy.deepcopy(all_models[which])
        model.update(changes)
        if fallback:
            add_bytes(model["vocab"])
        tokens = added_tokens(model["vocab"])
        rest = {"version": "1.0", "added_tokens": tokens, "normalizer": normalizer(), "pre_tokenizer": pre_tokenizer(byte_level),
                "post_processor": post_processor(tokens), "decoder": decoder(byte_level)}
        try:
            tokenizer = Tokenizer.from_str(json.dumps({**rest, "model": model}))
            cases = cases_of(tokenizer, model["vocab"])
        except BaseException:  # some combinations end in an error, or a panic, there
            continue
        lines.append({"model": which, "changes": changes, "bytes": fallback, "rest": rest, "cases": cases})
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer_features.jsonl.gz")
    with gzip.GzipFile(path, "wb", compresslevel=9, mtime=0) as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
    print(f"{path}: {len(lines) - 1} files")


if __name__ == "__main__":
    main()
