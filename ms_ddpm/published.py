from ._moved import moved

moved(__name__, "ms_ddpm.systems.corruption.published")
