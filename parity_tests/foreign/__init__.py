"""Ports that nobody here wrote, under `portparity.check`: what it says of 60 that are right, and which bugs it finds.

    python -m parity_tests.foreign judge                  # judges everything again, into found.json (about an hour)
    python -m parity_tests.foreign judge NAME ...         # or some of it
    python -m parity_tests.foreign --output docs

Nothing of theirs is here: requirements.txt names what is downloaded, with versions. `pairs` lists the pairs that are
right by their authors' intent, and was written before any was judged; `bugs` has what turned out to be wrong.
"""
