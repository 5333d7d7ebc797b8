"""podlab: what Kubernetes builds on Linux, by hand.

The same files are `podlab` on the controller and `ansible.module_utils.podlab` on a target,
so every import inside the package is relative.
"""
