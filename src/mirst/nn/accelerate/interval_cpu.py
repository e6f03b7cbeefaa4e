"""ReLU of boxes, and sums over boxes, for one CPU thread, compiled by numba.

Import this module late: numba takes half a second. All arrays are flat, of one length.
"""

from functools import partial

from mirst.nn.accelerate.drop_max_cpu import compiled


@compiled
def relu(centre, radius, middle, width):
    """Fill `middle` and `width` with centre and radius of the box behind a ReLU."""
    half, zero = centre.dtype.type(0.5), centre.dtype.type(0)
    for i in range(centre.size):
        low, high = centre[i] - radius[i], centre[i] + radius[i]
        low = zero if low <= 0 else low
        high = zero if high <= 0 else high
        middle[i] = half * (high + low)
        width[i] = half * (high - low)


@compiled
def relu_backward(centre, radius, of_middle, of_width, of_centre, of_radius):
    """Fill `of_centre` and `of_radius` with the gradients that belong to those of `relu`'s results."""
    half, zero = centre.dtype.type(0.5), centre.dtype.type(0)
    for i in range(centre.size):
        of_low = half * (of_middle[i] - of_width[i]) if centre[i] - radius[i] > 0 else zero
        of_high = half * (of_middle[i] + of_width[i]) if centre[i] + radius[i] > 0 else zero
        of_centre[i] = of_high + of_low
        of_radius[i] = of_high - of_low


@partial(compiled, fastmath={"reassoc", "nsz"})  # sums of several values at a time
def sums(centre, radius, out):
    """Fill `out` with the eight numbers of `mirst.nn.accelerate.interval_training.box_sums`."""
    total = width = actives = active = active2 = inactives = inactive = inactive2 = 0.0
    for i in range(centre.size):
        c, r = centre[i], radius[i]
        v = float(c)
        on, off = 1.0 if c > r else 0.0, 1.0 if -c > r else 0.0
        total += v
        width += float(r)
        actives += on
        active += on * v
        active2 += on * v * v
        inactives += off
        inactive += off * v
        inactive2 += off * v * v
    out[:] = (total, width, actives, active, active2, inactives, inactive, inactive2)


@compiled
def sums_backward(centre, radius, of_sums, of_centre, of_radius):
    """Fill `of_centre` and `of_radius` with the gradients that belong to those of the sums, of the arrays' type."""
    zero = centre.dtype.type(0)
    two = centre.dtype.type(2)
    total, width, active, active2, inactive, inactive2 = of_sums
    for i in range(centre.size):
        c, r = centre[i], radius[i]
        on = active + two * c * active2 if c > r else zero
        off = inactive + two * c * inactive2 if -c > r else zero
        of_centre[i] = total + on + off
        of_radius[i] = width
