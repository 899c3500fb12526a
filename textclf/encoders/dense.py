"""The encoder's dense layers, with gradients that read the activations as few times as possible.

The gradients that TensorFlow derives have the same values. But on a CPU with fast matrix products, they spend more time on
sums over rows, additions and conversions than on products. Here, a sum over rows is a product with a row of ones, which
takes a fifth of the time of `tf.reduce_sum`; the gradient of a bias before NoNorm is computed from that of NoNorm's shift;
and with bfloat16, the wide states between the two layers of a feed-forward network are never converted to float32.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

Gradients = tuple[tf.Tensor, ...]
Backward = Callable[[tf.Tensor], Gradients]


def dense(rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Float32 [rows, inputs] → [rows, outputs]; the operands of the product are rounded to `dtype`."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def layer(rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Backward]:
        inputs, weights = tf.cast(rows, dtype), tf.cast(kernel, dtype)

        def backward(upstream: tf.Tensor) -> Gradients:
            return *_product_gradients(inputs, weights, tf.cast(upstream, dtype), kernel.dtype), column_sums(upstream)

        return tf.nn.bias_add(tf.cast(tf.matmul(inputs, weights), tf.float32), bias), backward

    return layer(rows, kernel, bias)


def dense_norm(
    rows: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    residual: tf.Tensor | None,
    dtype: tf.DType,
) -> tf.Tensor:
    """A dense layer, `residual` [rows, outputs] added, and NoNorm (paper, section 3.4): a scale and a shift."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def layer(
        rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, *residual: tf.Tensor
    ) -> tuple[tf.Tensor, Backward]:
        inputs, weights = tf.cast(rows, dtype), tf.cast(kernel, dtype)
        before = tf.nn.bias_add(tf.cast(tf.matmul(inputs, weights), tf.float32), bias)
        if residual:
            before += residual[0]

        def backward(upstream: tf.Tensor) -> Gradients:
            d_beta, d_gamma = column_sums(upstream), column_sums(upstream * before)
            d_before = upstream * gamma
            d_rows, d_kernel = _product_gradients(inputs, weights, tf.cast(d_before, dtype), kernel.dtype)
            return d_rows, d_kernel, d_beta * gamma, d_gamma, d_beta, *([d_before] if residual else [])

        return before * gamma + beta, backward

    return layer(rows, kernel, bias, gamma, beta, *([] if residual is None else [residual]))


def feed_forward(
    rows: tf.Tensor,
    kernels: tuple[tf.Tensor, tf.Tensor],
    biases: tuple[tf.Tensor, tf.Tensor],
    gamma: tf.Tensor,
    beta: tf.Tensor,
    dtype: tf.DType,
) -> tf.Tensor:
    """Two dense layers with ReLU between them, the rows added, and NoNorm: float32 [rows, width] → the same shape."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def layer(
        rows: tf.Tensor,
        kernel_1: tf.Tensor,
        kernel_2: tf.Tensor,
        bias_1: tf.Tensor,
        bias_2: tf.Tensor,
        gamma: tf.Tensor,
        beta: tf.Tensor,
    ) -> tuple[tf.Tensor, Backward]:
        inputs, weights_1, weights_2 = (tf.cast(tensor, dtype) for tensor in (rows, kernel_1, kernel_2))
        # The wide states stay in `dtype`: they are the largest of a layer.
        inner = tf.nn.relu(tf.nn.bias_add(tf.matmul(inputs, weights_1), tf.cast(bias_1, dtype)))
        before = tf.nn.bias_add(tf.cast(tf.matmul(inner, weights_2), tf.float32), bias_2) + rows

        def backward(upstream: tf.Tensor) -> Gradients:
            d_beta, d_gamma = column_sums(upstream), column_sums(upstream * before)
            d_before = upstream * gamma
            short = tf.cast(d_before, dtype)
            d_kernel_2 = tf.cast(tf.matmul(inner, short, transpose_a=True), kernel_2.dtype)
            d_inner = tf.raw_ops.ReluGrad(gradients=tf.matmul(short, weights_2, transpose_b=True), features=inner)
            d_bias_1 = tf.cast(column_sums(d_inner), tf.float32)
            d_rows, d_kernel_1 = _product_gradients(inputs, weights_1, d_inner, kernel_1.dtype)
            return d_before + d_rows, d_kernel_1, d_kernel_2, d_bias_1, d_beta * gamma, d_gamma, d_beta

        return before * gamma + beta, backward

    return layer(rows, *kernels, *biases, gamma, beta)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def no_norm(rows: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, Backward]:
    """NoNorm alone, [rows, width] → the same shape."""

    def backward(upstream: tf.Tensor) -> Gradients:
        return upstream * gamma, column_sums(upstream * rows), column_sums(upstream)

    return rows * gamma + beta, backward


def column_sums(tensor: tf.Tensor) -> tf.Tensor:
    """[rows, width] → [width]."""
    return tf.reshape(tf.matmul(tf.ones([1, tf.shape(tensor)[0]], tensor.dtype), tensor), [-1])


def _product_gradients(inputs: tf.Tensor, weights: tf.Tensor, upstream: tf.Tensor, kernel: tf.DType) -> Gradients:
    """Returns the gradients of the rows, float32, and of the kernel, in its own type."""
    return (
        tf.cast(tf.matmul(upstream, weights, transpose_b=True), tf.float32),
        tf.cast(tf.matmul(inputs, upstream, transpose_a=True), kernel),
    )
