"""Functions of single elements, normalizations, matrices and reductions."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from netdissect.models.onnx_files.translation.node_inputs import DTYPES, Attributes, Operation, axes_of


def _batch_norm(attributes: Attributes, image: Tensor, *inputs: Tensor) -> Tensor:
    scale, bias, mean, variance = inputs
    return functional.batch_norm(image, mean, variance, scale, bias, eps=attributes.get("epsilon", 1e-5))


def _instance_norm(attributes: Attributes, image: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.instance_norm(image, weight=scale, bias=bias, eps=attributes.get("epsilon", 1e-5))


def _layer_norm(attributes: Attributes, values: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = attributes.get("axis", -1) % values.ndim
    return functional.layer_norm(values, values.shape[axis:], scale, bias, attributes.get("epsilon", 1e-5))


def _rms_norm(attributes: Attributes, values: Tensor, scale: Tensor) -> Tensor:
    axis = attributes.get("axis", -1) % values.ndim
    return functional.rms_norm(values, values.shape[axis:], scale, attributes.get("epsilon", 1e-5))


def _group_norm(attributes: Attributes, image: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.group_norm(image, attributes["num_groups"], scale, bias, attributes.get("epsilon", 1e-5))


def _lp_norm(attributes: Attributes, values: Tensor) -> Tensor:
    return functional.normalize(values, attributes.get("p", 2), attributes.get("axis", -1))


def _local_response_norm(attributes: Attributes, image: Tensor) -> Tensor:
    alpha, beta, bias = (attributes.get(name, value) for name, value in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1)))
    return functional.local_response_norm(image, attributes["size"], alpha, beta, bias)


def _gemm(attributes: Attributes, left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    left = left.T if attributes.get("transA", 0) else left
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if alpha == beta == 1 and attributes.get("transB", 0) and (bias is None or bias.ndim == 1):
        return functional.linear(left, right, bias)
    product = left @ (right.T if attributes.get("transB", 0) else right)
    product = product if alpha == 1 else alpha * product
    return product if bias is None else product + (bias if beta == 1 else beta * bias)


def _einsum(attributes: Attributes, *inputs: Tensor) -> Tensor:
    return torch.einsum(attributes["equation"], *inputs)


def _clip(attributes: Attributes, values: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    bounds = [attributes.get(name) if bound is None else bound.item() for name, bound in (("min", low), ("max", high))]
    return values if bounds == [None, None] else torch.clamp(values, *bounds)


def _cast(attributes: Attributes, values: Tensor) -> Tensor:
    return values.to(DTYPES[attributes["to"]])


def _divided(one: Tensor, other: Tensor) -> Tensor:
    return one / other if one.is_floating_point() else torch.div(one, other, rounding_mode="trunc")


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(base, exponent.item() if exponent.numel() == 1 else exponent).to(base.dtype)


def _remainder(attributes: Attributes, one: Tensor, other: Tensor) -> Tensor:
    return torch.fmod(one, other) if attributes.get("fmod", 0) else torch.remainder(one, other)


def _hard_sigmoid(attributes: Attributes, values: Tensor) -> Tensor:
    slope, shift = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    if abs(slope - 1 / 6) < 1e-4 and shift == 0.5:
        return functional.hardsigmoid(values)
    return torch.clamp(slope * values + shift, 0, 1)


def _gelu(attributes: Attributes, values: Tensor) -> Tensor:
    return functional.gelu(values, approximate=attributes.get("approximate", "none"))


def _p_relu(values: Tensor, slope: Tensor) -> Tensor:
    return torch.where(values < 0, slope * values, values)


def _quantize(attributes: Attributes, values: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    scale, shift = _along(attributes, values, scale), 0 if zero is None else _along(attributes, values, zero)
    dtype = torch.uint8 if zero is None else zero.dtype
    range_of = torch.iinfo(dtype)
    return torch.clamp(torch.round(values / scale) + shift, range_of.min, range_of.max).to(dtype)


def _dequantize(attributes: Attributes, values: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    shift = 0 if zero is None else _along(attributes, values, zero).to(scale.dtype)
    return (values.to(scale.dtype) - shift) * _along(attributes, values, scale)


def _along(attributes: Attributes, values: Tensor, numbers: Tensor) -> Tensor:
    """Bring one number for each index of a dimension to this dimension."""
    if numbers.ndim != 1 or values.ndim < 2:
        return numbers
    shape = [1] * values.ndim
    shape[attributes.get("axis", 1) % values.ndim] = -1
    return numbers.reshape(shape)


def _plain(function: Callable[..., Tensor]) -> Operation:
    return lambda _attributes, *inputs: function(*inputs)


def _with_alpha(function: Callable[..., Tensor], usual: float) -> Operation:
    return lambda attributes, values: function(values, attributes.get("alpha", usual))


def _along_axis(function: Callable[..., Tensor]) -> Operation:
    return lambda attributes, values: function(values, attributes.get("axis", -1))


def _of_all(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def operation(first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)
        return first

    return operation


def _reduced(function: Callable[..., Tensor]) -> Operation:
    def operation(attributes: Attributes, values: Tensor, axes: Tensor | None = None) -> Tensor:
        dims = axes_of(attributes, axes) or []
        if not dims and attributes.get("noop_with_empty_axes", 0):
            return values
        keep = bool(attributes.get("keepdims", 1))
        return function(values, dim=tuple(dims or range(values.ndim)), keepdim=keep)

    return operation


def _product(values: Tensor, dim: Sequence[int], *, keepdim: bool) -> Tensor:
    for each in sorted((index % values.ndim for index in dim), reverse=True):
        values = values.prod(each, keepdim=keepdim)
    return values


def _extreme_index(function: Callable[..., Tensor]) -> Operation:
    return lambda attributes, values: function(
        values, dim=attributes.get("axis", 0), keepdim=bool(attributes.get("keepdims", 1))
    )


def _cumulative(_attributes: Attributes, values: Tensor, axis: Tensor) -> Tensor:
    return torch.cumsum(values, int(axis.item()))


PLAIN: dict[str, Callable[..., Tensor]] = {
    **{
        name: getattr(torch, name.lower())
        for name in (
            "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor",
            "Log", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Sqrt", "Tan", "Tanh",
        )
    },
    "Add": torch.add, "And": torch.logical_and, "Div": _divided, "Equal": torch.eq, "Greater": torch.gt,
    "GreaterOrEqual": torch.ge, "HardSwish": functional.hardswish, "IsNaN": torch.isnan, "Less": torch.lt,
    "LessOrEqual": torch.le, "MatMul": torch.matmul, "Max": _of_all(torch.maximum), "Min": _of_all(torch.minimum),
    "Mish": functional.mish, "Mul": torch.mul, "Neg": torch.neg, "Not": torch.logical_not, "Or": torch.logical_or,
    "PRelu": _p_relu, "Pow": _power, "Reciprocal": torch.reciprocal, "Relu": torch.relu,
    "Softplus": functional.softplus, "Softsign": functional.softsign, "Sub": torch.sub, "Sum": _of_all(torch.add),
    "Where": torch.where, "Xor": torch.logical_xor,
}  # fmt: skip
"""Operations whose attributes, if there are any, do not matter."""
OPERATIONS: dict[str, Operation] = {
    **{name: _plain(function) for name, function in PLAIN.items()},
    "ArgMax": _extreme_index(torch.argmax),
    "ArgMin": _extreme_index(torch.argmin),
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Celu": _with_alpha(functional.celu, 1.0),
    "Clip": _clip,
    "CumSum": _cumulative,
    "DequantizeLinear": _dequantize,
    "Einsum": _einsum,
    "Elu": _with_alpha(functional.elu, 1.0),
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _with_alpha(functional.leaky_relu, 0.01),
    "LogSoftmax": _along_axis(torch.log_softmax),
    "LpNormalization": _lp_norm,
    "Mod": _remainder,
    "QuantizeLinear": _quantize,
    "RMSNormalization": _rms_norm,
    "ReduceL2": _reduced(torch.linalg.vector_norm),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceProd": _reduced(_product),
    "ReduceSum": _reduced(torch.sum),
    "Selu": _plain(functional.selu),
    "Softmax": _along_axis(torch.softmax),
}
