"""The bill of materials of a model, as CycloneDX has it for machine learning (ML-BOM).

Format: CycloneDX 1.6 (ECMA-424), https://cyclonedx.org/docs/1.6/json/.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from ..edge.bundle import Manifest
from ..record import Measurement, TensorSpec, encode

__all__ = ["BOM", "bill_of_materials"]

BOM = "bom.cdx.json"  # the file's name in a bundle


def bill_of_materials(manifest: Manifest) -> bytes:
    """JSON of what a bundle holds, without a date: the same model gives the same bytes."""
    first = manifest.artifacts[0]
    component = {
        "type": "machine-learning-model",
        "bom-ref": manifest.name,
        "name": manifest.name,
        "version": str(manifest.version),
        "licenses": [{"license": {"name": name}} for name in manifest.licences],
        "modelCard": {
            "modelParameters": {
                "inputs": [{"format": _format(spec)} for spec in first.signature.inputs],
                "outputs": [{"format": _format(spec)} for spec in first.signature.outputs],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [
                    metric for found in manifest.measurements for metric in _metrics(found)
                ]
            },
        },
        "properties": [
            {"name": f"edgewise:lineage:{i}:{event.step}", "value": _json(event.params)}
            for i, event in enumerate(first.lineage)
        ],
    }
    files = [
        {
            "type": "file",
            "bom-ref": f"{artifact.runtime}/{i}",
            "name": f"{artifact.runtime} file {i}",
            "hashes": [{"alg": "SHA-256", "content": digest}],
            "properties": [
                {"name": "edgewise:runtime", "value": artifact.runtime},
                {"name": "edgewise:precision", "value": artifact.precision},
            ],
        }
        for artifact in manifest.artifacts
        for i, digest in enumerate(artifact.files.values())
    ]
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component},
        "components": files,
        "dependencies": [{"ref": manifest.name, "dependsOn": [f["bom-ref"] for f in files]}],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, "urn:edgewise:" + _json(body))
    return encode({**body, "serialNumber": f"urn:uuid:{serial}"})


def _format(spec: TensorSpec) -> str:
    sizes = ", ".join("batch" if size is None else str(size) for size in spec.shape)
    return f"{spec.name}: {spec.dtype} ({sizes})" + (f", {spec.layout}" if spec.layout else "")


def _metrics(found: Measurement) -> list[dict[str, Any]]:
    """The figures of a measurement, each with the runtime and the device as its slice."""
    where = {"slice": f"{found.runtime} on {found.device}"}
    metrics = []
    if found.value is not None:
        metric = {"type": found.metric, "value": f"{found.value:.6g}", **where}
        if found.ci95:
            low, high = found.ci95
            bounds = {"lowerBound": f"{low:.6g}", "upperBound": f"{high:.6g}"}
            metric["confidenceInterval"] = bounds
        metrics.append(metric)
    if found.latency_ms is not None:
        metrics.append({"type": "latency p50 ms", "value": f"{found.latency_ms.p50:.6g}", **where})
    if found.memory_bytes is not None:
        metrics.append({"type": "memory bytes", "value": str(found.memory_bytes), **where})
    return metrics


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
