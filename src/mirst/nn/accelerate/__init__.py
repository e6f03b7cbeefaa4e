"""Optimizations: the same outputs and gradients up to float rounding, faster.

`switch` turns all of them off. `agreement` compares an optimized model with the model itself on the images at hand.
No model, layer or checkpoint depends on this package, except that drop-max calls `drop_max_fused.fused_drop_max`.
"""
