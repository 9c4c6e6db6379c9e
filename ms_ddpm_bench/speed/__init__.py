"""How fast, how large: MindSpore against PyTorch on the same weights and inputs. `scripts/bench.py` is its command.

`sizes` says what is computed and `contestants` who computes it. Each contestant is a process of its own (`worker`),
which `child` starts and talks to; `measure` asks them in turn, round after round, so that a noisy moment of the machine
hits all alike, and `agree` refuses to time outputs that differ. `results` holds what was found, `tables` and `page`
show it. Only the processes of `worker` import a framework.
"""
