"""What a graph from a file may call: a list of names, and nothing else.

A file names its operators; these names are looked up here and never evaluated. The aten list
holds what trained networks compute with. It leaves out, on purpose:

- what touches more than its arguments (``aten.from_file`` maps and creates files, ``aten.save``
  writes them, ``set_`` and ``resize_`` change a tensor's memory);
- what reads memory that it did not write or does not check (``empty``, ``as_strided``,
  ``_unsafe_index``), and random numbers;
- what has a result shape that depends on values (``nonzero``, ``masked_select``, ``item``).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch._ops import OpOverload

from ..errors import ModelError
from ..math.affine import fake_quantize, fake_quantize_dynamic
from ..math.codebook import lookup

__all__ = ["ARITHMETIC", "Arithmetic", "name_of", "resolve"]

_ATEN = """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution
    linear bilinear addmm addbmm baddbmm addmv addr bmm mm mv matmul dot vdot inner outer einsum
    tensordot kron chain_matmul linalg_vector_norm linalg_norm linalg_cross norm cdist
    cosine_similarity pairwise_distance

    batch_norm instance_norm layer_norm native_layer_norm group_norm native_group_norm rms_norm
    _native_batch_norm_legit_no_training dropout feature_dropout alpha_dropout
    feature_alpha_dropout native_dropout embedding embedding_bag one_hot

    relu relu6 hardtanh hardsigmoid hardswish leaky_relu elu selu celu gelu silu mish prelu
    sigmoid log_sigmoid tanh softplus softshrink hardshrink threshold glu logit softmax
    log_softmax _softmax _log_softmax _safe_softmax scaled_dot_product_attention

    max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
    max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d

    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d
    upsample_bicubic2d upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa
    grid_sampler grid_sampler_2d grid_sampler_3d affine_grid_generator pixel_shuffle
    pixel_unshuffle channel_shuffle im2col col2im pad constant_pad_nd reflection_pad1d
    reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d

    lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell

    abs neg sign sgn square sqrt rsqrt reciprocal exp exp2 expm1 log log2 log10 log1p pow erf erfc
    floor ceil round trunc fix frac clamp clamp_min clamp_max clip nan_to_num sin cos tan asin
    acos atan atan2 sinh cosh asinh acosh atanh arctan arctan2 sinc deg2rad rad2deg hypot
    positive negative absolute float_power ldexp

    add sub subtract rsub mul multiply div divide true_divide floor_divide remainder fmod addcmul
    addcdiv lerp maximum minimum fmax fmin eq ne lt le gt ge not_equal less less_equal
    greater greater_equal logical_and logical_or logical_not logical_xor bitwise_and bitwise_or
    bitwise_not bitwise_xor bitwise_left_shift bitwise_right_shift __and__ __or__ __xor__
    __lshift__ __rshift__ where masked_fill isnan isinf isfinite

    sum nansum mean prod max min amax amin aminmax argmax argmin any all var std var_mean std_mean
    logsumexp cumsum cumprod cummax cummin topk sort argsort median kthvalue count_nonzero
    searchsorted bucketize

    view _unsafe_view view_as reshape reshape_as flatten unflatten permute transpose t adjoint mT
    numpy_T swapaxes swapdims movedim moveaxis squeeze unsqueeze expand expand_as broadcast_to
    broadcast_tensors repeat repeat_interleave tile cat concat concatenate stack hstack vstack
    dstack column_stack split split_with_sizes chunk tensor_split unbind slice select narrow
    index index_select index_put gather take_along_dim scatter scatter_add scatter_reduce
    select_scatter slice_scatter diagonal diag_embed diag tril triu roll flip fliplr flipud rot90
    unfold meshgrid atleast_1d atleast_2d atleast_3d ravel copy fill zero masked_scatter

    arange linspace eye full full_like zeros zeros_like ones ones_like new_zeros new_ones new_full
    scalar_tensor tril_indices triu_indices hann_window hamming_window

    to _to_copy type_as clone contiguous detach alias lift_fresh lift_fresh_copy
    sym_size sym_numel

    stft fft_rfft fft_irfft view_as_real view_as_complex real imag
    """
ATEN = frozenset(_ATEN.split())

EDGEWISE = {
    str(operator._opoverload): operator._opoverload
    for operator in (fake_quantize, fake_quantize_dynamic, lookup)
}


@dataclass(frozen=True)
class Arithmetic:
    """Python arithmetic on sizes.

    Attributes:
        function: what the graph calls.
        arity: how many arguments it takes.
        product: whether a result can have as many digits as the arguments have together.
    """

    function: Callable
    arity: int
    product: bool = False


# Powers and shifts are missing: they would make numbers of any length.
ARITHMETIC: dict[str, Arithmetic] = {
    "operator.getitem": Arithmetic(operator.getitem, 2),
    "operator.mul": Arithmetic(operator.mul, 2, product=True),
    **{
        f"operator.{f.__name__}": Arithmetic(f, 2)
        for f in (
            operator.add, operator.sub, operator.floordiv, operator.truediv, operator.mod,
            operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
            operator.and_, operator.or_,
        )
    },
    "operator.neg": Arithmetic(operator.neg, 1),
    "operator.pos": Arithmetic(operator.pos, 1),
    "torch.sym_max": Arithmetic(torch.sym_max, 2),
    "torch.sym_min": Arithmetic(torch.sym_min, 2),
    "torch.sym_not": Arithmetic(torch.sym_not, 1),
    "torch.sym_int": Arithmetic(torch.sym_int, 1),
    "torch.sym_float": Arithmetic(torch.sym_float, 1),
    "math.trunc": Arithmetic(math.trunc, 1),
}  # fmt: skip

_NAMES = {row.function: name for name, row in ARITHMETIC.items()}


def resolve(name: str, *, in_place: bool = False) -> Callable:
    """The operator of that name: ``aten.conv2d.default``, ``operator.mul`` ...

    Args:
        in_place: also accept aten's in-place forms (``aten.relu_.default``) of listed operators.

    Raises:
        ModelError: it is not on the list.
    """
    if name in ARITHMETIC:
        return ARITHMETIC[name].function
    if name in EDGEWISE:
        return EDGEWISE[name]
    namespace, _, rest = name.partition(".")
    packet, _, overload = rest.partition(".")
    listed = packet in ATEN or (in_place and packet.removesuffix("_") in ATEN)
    if namespace == "aten" and listed and hasattr(torch.ops.aten, packet):
        overloads = getattr(torch.ops.aten, packet)
        if overload in overloads.overloads():
            found = getattr(overloads, overload)
            if _pure(found) or (in_place and _changes_first(found)):
                return found
    raise ModelError(
        f"the operator '{name}' is not one that edgewise reads from a file: load the model from "
        "Python, or replace that operator"
    )


def name_of(target: object) -> str:
    """The name that `resolve` gives this operator for.

    Raises:
        ModelError: it is not on the list.
    """
    name = _NAMES.get(target)
    if name is None and isinstance(target, OpOverload):
        name = str(target)
    if name is None:
        name = getattr(target, "__name__", str(target))
    resolve(name)
    return name


def _pure(found: OpOverload) -> bool:
    """Whether the operator changes nothing and gives tensors (or is one of the ``sym_`` two).

    That leaves out TorchScript's overloads for strings and lists (``aten.mul.left_t`` repeats a
    list as often as it is told).
    """
    returns = [str(r.type) for r in found._schema.returns]
    tensors = all(r in ("Tensor", "List[Tensor]") for r in returns) and returns != []
    return not found._schema.is_mutable and (tensors or found._schema.name.startswith("aten::sym_"))


def _changes_first(found: OpOverload) -> bool:
    """Whether the operator changes its first argument and nothing else (``add_``)."""
    writes = [a.alias_info is not None and a.alias_info.is_write for a in found._schema.arguments]
    return found._schema.name.endswith("_") and writes[0] and not any(writes[1:])
