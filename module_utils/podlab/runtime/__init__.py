"""Node, sandbox, container, supervisor: `linux` put together as `kube` says."""
