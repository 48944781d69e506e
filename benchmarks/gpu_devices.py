"""What GPUs reach at most: dense matrix products in bf16, in TFLOPS, by their data sheets."""

PEAKS = {  # part of the name that CUDA gives the device, the longest that fits decides
    "NVIDIA H200": 989.4,
    "NVIDIA H200 NVL": 835.5,
    "NVIDIA H100 80GB HBM3": 989.4,  # SXM
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100 NVL": 835.5,
    "NVIDIA GH200": 989.4,
    "NVIDIA A100": 311.9,
    "NVIDIA A30": 165.0,
    "NVIDIA A40": 149.7,
    "NVIDIA A10": 125.0,
    "NVIDIA L4": 121.0,
    "NVIDIA L40": 181.1,
    "NVIDIA L40S": 362.1,
}
UNLIKE = ("MIG", "A10G")  # a slice of a device, and one whose name begins as that of another


def dense_bf16_peak(name: str) -> float | None:
    """TFLOPS of a device by its name; none where it is not known.

    >>> dense_bf16_peak("NVIDIA H200"), dense_bf16_peak("NVIDIA L40S"), dense_bf16_peak("NVIDIA A100-SXM4-80GB")
    (989.4, 362.1, 311.9)
    >>> dense_bf16_peak("NVIDIA H100 80GB HBM3 MIG 1g.10gb"), dense_bf16_peak("NVIDIA L400")
    (None, None)
    """
    if any(word in name for word in UNLIKE):
        return None
    fitting = [known for known in PEAKS if name == known or name.startswith((f"{known} ", f"{known}-"))]
    return PEAKS[max(fitting, key=len)] if fitting else None
