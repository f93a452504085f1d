"""Which box is to find which object, and the drawing of boxes to learn from: Ren et al. 2015, sections 3.1.2 and 3.1.3,
https://arxiv.org/abs/1506.01497."""

from keras import ops

BACKGROUND, UNUSED = -1, -2  # what a box finds: nothing; or it counts neither way


def matched(overlaps, known, *, least: float, most_of_background: float, every_object: bool = False):
    """For each box the place of the object that it is to find, (batch, boxes) int32; BACKGROUND or UNUSED for none.

    Input   overlaps  (batch, boxes, objects) float, intersection over union, 0..1
            known     (batch, objects) bool, False for padding

    Args:
        least: from which overlap on a box finds the object that it overlaps with most, of equal ones the first.
        most_of_background: below which it finds nothing; between the two it is UNUSED.
        every_object: whether the boxes that overlap most with an object, all that do so equally, find their own best object,
            however little they overlap, where they overlap at all.
    """
    overlaps = ops.where(known[:, None], overlaps, -1.0)
    best, place = ops.max(overlaps, axis=2), ops.cast(ops.argmax(overlaps, axis=2), "int32")
    finds = best >= least
    if every_object:
        of_object = ops.max(overlaps, axis=1, keepdims=True)
        finds = ops.logical_or(finds, ops.any(ops.logical_and(overlaps == of_object, of_object > 0), axis=2))
    return ops.where(finds, place, ops.where(best < most_of_background, BACKGROUND, UNUSED))


def drawn(places, numbers, count: int, most: int):
    """Boxes to learn from: at most ``most`` that find an object, and as many of the background as make ``count`` with them.

    Input   places   (batch, boxes) int32, as ``matched`` gives
            numbers  (batch, boxes) float in [0, 1), random: of each kind those with the largest are drawn
    Output  chosen   (batch, count) int32, the drawn boxes, those that find an object first
            used     (batch, count) bool, False where there are not enough; these come last
    """
    first, of_objects = _largest(places >= 0, numbers, most)
    second, of_background = _largest(places == BACKGROUND, numbers, count)
    # Those of the background follow the last that finds an object.
    found = ops.sum(ops.cast(of_objects, "int32"), axis=1, keepdims=True)
    rank = ops.arange(count, dtype="int32")[None]
    source = ops.where(rank < found, rank, ops.shape(first)[1] + rank - found)
    both = ops.concatenate([of_objects, of_background], axis=1)
    beyond = source >= ops.shape(both)[1]
    source = ops.where(beyond, 0, source)
    chosen = ops.take_along_axis(ops.concatenate([first, second], axis=1), source, axis=1)
    return chosen, ops.logical_and(ops.take_along_axis(both, source, axis=1), ops.logical_not(beyond))


def _largest(wanted, numbers, count):
    """(batch, count) the places of the largest numbers of those that are wanted, and whether they are."""
    numbers, places = ops.top_k(ops.where(wanted, numbers, -1.0), at_most(count, numbers))
    return ops.cast(places, "int32"), numbers >= 0


def at_most(count: int, values):
    """``count``, or how many values (batch, n) there are if that is less: a number where n is known, else a tensor."""
    available = values.shape[1]
    return ops.minimum(count, ops.shape(values)[1]) if available is None else min(count, available)


def taken(values, places):
    """Rows of each example: values (batch, n, ...), places (batch, m) -> (batch, m, ...)."""
    places = ops.reshape(places, (*ops.shape(places), *[1] * (len(values.shape) - 2)))
    return ops.take_along_axis(values, places, axis=1)
