"""Black-box rows: a pod, a script that prints key=value, what is expected, and runc as an oracle beside podlab."""
