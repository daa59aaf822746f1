"""Each runtime's own best tool, from a PyTorch module to a float and an int8 file.

One file a peer, run in the peers' environment (`benchmarks/peers/requirements.txt`):

    python -m benchmarks.peers.onnxruntime --net resnet20 --out benchmarks/out/resnet20/onnxruntime

Each writes ``float.<suffix>`` and ``int8.<suffix>``, made for batch 1, and ``record.json`` with
the seconds of each stage, the versions and the peak memory.
"""
