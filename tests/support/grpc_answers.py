"""What gRPC servers answered to a health check on a connection of its own, from its first byte, as recorded.

grpcio 1.85 (gRPC's C core) with grpcio-health-checking, and Node's http2 (nghttp2: Huffman-coded fields, a table).
"""

from __future__ import annotations

from podlab.kube.probes import FAILURE, SUCCESS

SETTINGS = bytes.fromhex("000000040000000000")

_CORE = (
    "000018040000000000000400400000000500400000000600004000fe0300000001000004080000000000003f0001"
    "000000040100000000000004080000000000000000050000080600000000008b7064133e812b84"
)
_CORE_HEAD = (
    "00004e01040000000188400c636f6e74656e742d74797065106170706c69636174696f6e2f677270634014677270632d6163636570742d656e"
    "636f64696e67176964656e746974792c206465666c6174652c20677a6970"
)
_CORE_OK = "00001e010500000001400b677270632d7374617475730130000c677270632d6d65737361676500"
GRPC_CORE = bytes.fromhex(f"{_CORE}{_CORE_HEAD}00000700000000000100000000020801{_CORE_OK}")
_NODE = "000000040000000000000000040100000000"
_NODE_HEAD = (
    "00004b010400000001885f8b1d75d0620d263d4c4d6564408e9acac8b0c842d6958b510f21aa9b839bd9ab768f1ac82d9dcb62de0c99d61ad50e"
    "92ff6196df3dbf4a09c5349fba82009c5001b8c82e044a62d1bf"
)
NGHTTP2 = bytes.fromhex(
    f"{_NODE}{_NODE_HEAD}0000070000000000010000000002080100000c01050000000140889acac8b21234da8f0130"
)

_RPC = "error: health rpc probe failed: rpc error: code = "
_NO_HEALTH = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): Method not found!"
# Case, bytes, the probe's answer.
ANSWERS = [
    ("core: serving", GRPC_CORE, (SUCCESS, "service healthy")),
    (
        "core: not serving",
        bytes.fromhex(f"{_CORE}{_CORE_HEAD}00000700000000000100000000020802{_CORE_OK}"),
        (FAILURE, 'service unhealthy (responded with "NOT_SERVING")'),
    ),
    (
        "core: no such service",
        bytes.fromhex(
            f"{_CORE}{_CORE_HEAD}000005000000000001000000000000001e010500000001400b677270632d7374617475730135000c67727063"
            "2d6d65737361676500"
        ),
        (FAILURE, f"{_RPC}NotFound desc = "),
    ),
    (
        "core: denied, the message coded",
        bytes.fromhex(
            f"{_CORE}00005701050000000188400c636f6e74656e742d74797065106170706c69636174696f6e2f67727063400b677270632d7374"
            "617475730137000c677270632d6d657373616765196e6f3a202543332542436e69636f6465202532352068657265"
        ),
        (FAILURE, f"{_RPC}PermissionDenied desc = no: ünicode % here"),
    ),
    (
        "core: no health service",
        bytes.fromhex(
            f"{_CORE}00005001050000000188400c636f6e74656e742d74797065106170706c69636174696f6e2f67727063400b677270632d7374"
            "61747573023132000c677270632d6d657373616765114d6574686f64206e6f7420666f756e6421"
        ),
        (FAILURE, _NO_HEALTH),
    ),
    ("nghttp2: serving", NGHTTP2, (SUCCESS, "service healthy")),
    (
        "nghttp2: no such service",
        bytes.fromhex(
            f"{_NODE}{_NODE_HEAD}00003b01050000000140889acac8b21234da8f013540899acac8b5254207317fa3b6aeb51fc54a20b677310aa7"
            "89cc49d43214a0f54ca16a3db34ea24ea465508790b27f"
        ),
        (FAILURE, f"{_RPC}NotFound desc = unknown service which is long enough to be coded"),
    ),
    (
        "nghttp2: a gateway's error page",
        bytes.fromhex(
            f"{_NODE}00002501040000000148826c025f87497ca589d34d1f6196df3dbf4a09c5349fba82009c5001b8c82e044a62d1bf"
            "0000180001000000013c68746d6c3e62616420676174657761793c2f68746d6c3e"
        ),
        (FAILURE, f"{_RPC}Unavailable desc = unexpected HTTP status code received from server: 502"),
    ),
]
