"""The class of docs/first_ddpm.md."""
