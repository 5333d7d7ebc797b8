"""One file per kernel facility. The only code that touches the kernel."""
