"""The smallest run: two jobs, the second waits for the first. `python examples/first.py`, twice for the resume."""

from pathlib import Path

from towline import Flow, job, resume, run

STORE = "runs/first"


@job
def add(a: int, b: int) -> int:
    return a + b


if __name__ == "__main__":
    if Path(STORE).exists():
        done = resume(STORE)  # no flow needed: everything is in the store
        print(done.state, done.counts())
    else:
        one = add(1, 2)
        two = add(one.output, 3)
        done = run(Flow([one, two], name="first"), store=STORE, workers=2)
        print(done.state, done.output(two), done.counts())
