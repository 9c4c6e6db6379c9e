"""What this machine has, lacks and needs to run ms_ddpm on CPU, GPU and Ascend: ``python -m ms_ddpm.doctor``.

`machine` is what the probes may look at, and can be a fake one; `cpu`, `gpu` and `ascend` are the probes; `start`
proves that a device which looks ready computes.
"""
