"""Make steps of one peer whenever asked to, with the code of any checkout: a child of `benchmarks.checkouts`.

    PYTHONPATH=CHECKOUT python -P timed_steps.py PEER STATISTIC INPUTS.npz

INPUTS is a file written by `benchmarks.networks.write_inputs`. Each line on standard input asks for a call of the
peer's step. Every answer on standard output is one line of JSON: first ``{"jnst": path, "losses": [...]}`` after the
warm-up, then for each request ``{"seconds": ..., "losses": [...]}`` with the seconds of one step.

`benchmarks` and `jnst` are those of CHECKOUT, which may be older. It only needs `benchmarks.networks.read_inputs`,
`benchmarks.peers.prepare` and `benchmarks.peers.STATISTICS`.
"""

import json
import sys
import time
from pathlib import Path

WARM_UP = 2


def main(arguments: list[str]) -> None:
    """Prepare the peer, then answer requests until the end of standard input."""
    answers, sys.stdout = sys.stdout, sys.stderr
    import jnst
    from benchmarks import networks, peers

    peer, statistic, inputs = arguments
    params, content, style = networks.read_inputs(Path(inputs))
    step = peers.prepare(peer, content, style, peers.STATISTICS[statistic](params))

    def answer(**values: object) -> None:
        print(json.dumps(values), file=answers, flush=True)

    answer(jnst=jnst.__file__, losses=[loss for _ in range(WARM_UP) for loss in step.advance()])
    for _ in sys.stdin:
        begun = time.perf_counter()
        losses = step.advance()
        answer(seconds=(time.perf_counter() - begun) / step.length, losses=[*losses])


if __name__ == "__main__":
    main(sys.argv[1:])
