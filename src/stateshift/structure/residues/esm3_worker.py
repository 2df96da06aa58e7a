"""Residue rows by ESM3, run as a script by the interpreter of another environment.

Its package and fair-esm are both imported as ``esm``, so the two can't share an environment. This file
imports nothing of stateshift. Protocol, one JSON object a line: the worker says ``{"ready": NAME}``; each
request ``{"sequence", "coordinates", "output"}`` names an .npy of (L, 37, 3) Å (NaN where an atom is
missing) and the .npy to write, and is answered by ``{"rows": [L + 2, D]}`` or ``{"error": SENTENCE}``.
"""

import json
import os
import sys


def main() -> None:
    """Load the model once, then answer until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # libraries may print: only answers go where the caller listens
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    import numpy as np
    import torch
    from esm.models.esm3 import ESM3
    from esm.sdk.api import ESMProtein, SamplingConfig

    name = sys.argv[1]
    model = ESM3.from_pretrained(name, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    model = model.float().eval()

    def answer(**content: object) -> None:
        print(json.dumps(content), file=answers, flush=True)

    answer(ready=name)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            coordinates = torch.from_numpy(np.load(request["coordinates"], allow_pickle=False))
            protein = ESMProtein(sequence=request["sequence"], coordinates=coordinates)
            with torch.no_grad():
                out = model.forward_and_sample(
                    model.encode(protein), SamplingConfig(return_per_residue_embeddings=True)
                )
            rows = out.per_residue_embedding.float().cpu().numpy()
            np.save(request["output"], rows, allow_pickle=False)
            answer(rows=list(rows.shape))
        except Exception as error:
            answer(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
