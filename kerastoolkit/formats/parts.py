"""The largest part of a serving model that a format can hold, found by looking at the operations that each answer needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from kerastoolkit.experiment import InputError
from kerastoolkit.formats import Part, answers_of
from kerastoolkit.pipeline import call

# What is gone once weights are constants, functions are put in their places, and assertions, which no format has, are left out.
PLUMBING = {"Assert", "Const", "Identity", "IdentityN", "NoOp", "PartitionedCall", "Placeholder", "ReadVariableOp",
            "ResourceGather", "StatefulPartitionedCall", "StopGradient", "VarHandleOp"}  # fmt: skip
LOOP, LOOPS = "a loop", ("While", "StatelessWhile", "TensorList")  # whose operations tell a person nothing
READ_AND_WRITTEN = "a list that a loop both reads and writes"
TOLD = 3  # of what is lacking
Holds = Callable[[str, str], bool]


def largest_part(candidates: dict[str, keras.Model], holds: Holds, *, format: str) -> tuple[Part, str]:
    """The first of the candidates whose answers a format can hold, and a line on what it is.

    Of an answer whole numbers, and names that are picked from a list, may be left out where the format has not what they need:
    the numbers that they follow from stay. Without any of its other answers a candidate is none.

    Args:
        candidates: by name, the largest first.
        holds: (operation, type of its numbers) -> whether the format has it.
        format: its name, for the line.
    Raises:
        InputError: the format can hold none of them.
    """
    reasons = []
    for name, model in candidates.items():
        if strings := [tensor.name for tensor in model.inputs if tensor.dtype == "string"]:
            reasons.append(f"{name} takes strings ({', '.join(strings)})")
            continue
        kept, left_out, lost = _sorted(model, holds)
        if lost or not kept:
            reasons.append(f"{name} needs {_some_of(lost or left_out)}")
            continue
        taken = ", ".join(tensor.name for tensor in model.inputs)
        line = f"{format} holds {name}: {taken} -> {', '.join(kept)}"
        line += f"; {_listed(left_out)} left out" if left_out else ""
        line += f"; no more, because {' and '.join(reasons)}" if reasons else ""
        return Part(name, model, {each: each for each in kept}), line
    raise InputError(f"{format} cannot hold this run: {'; '.join(reasons)}")


def graph_of(model: keras.Model, answers: dict[str, str] | None = None) -> Any:
    """The graph of a model for any number of examples: its inputs, in their order -> ``answers``, by the names that they are
    given there, or all."""
    names = [tensor.name for tensor in model.inputs]
    specs = [tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=tensor.name) for tensor in model.inputs]

    def function(*tensors):
        found = answers_of(model, call(model, dict(zip(names, tensors, strict=True))))
        # Named once more, so that an answer that is an input given back is a tensor of its own.
        return {name: tf.identity(found[own], name) for own, name in (answers or dict(zip(found, found, strict=True))).items()}

    return tf.function(function, autograph=False).get_concrete_function(*specs)


def _sorted(model: keras.Model, holds: Holds) -> tuple[list[str], dict[str, list[str]], dict[str, list[str]]]:
    """The answers of a model that a format can hold; those that may be left out, and those whose loss leaves too little, each
    with the reason."""
    graph = graph_of(model)
    functions = {each.signature.name: each for each in graph.graph.as_graph_def().library.function}
    kept, left_out, lost = [], {}, {}
    for name, tensor in graph.structured_outputs.items():
        lacking = [(op, kind) for op, kind in _needed(graph, name, functions) if op not in PLUMBING and not holds(op, kind)]
        missing = sorted({f"{op} of {kind}" if holds(op, "") else LOOP if op.startswith(LOOPS) else op for op, kind in lacking})
        if not missing and tensor.dtype != tf.string:
            kept.append(name)
        elif not missing:
            left_out[name] = ["string"]
        elif tensor.dtype.is_integer or tensor.dtype.is_bool:
            left_out[name] = missing
        else:
            lost[name] = missing
    return kept, left_out, lost


def _needed(graph: Any, name: str, functions: dict[str, Any]) -> set[tuple[str, str]]:
    """(operation, type of its numbers) of all that an answer is computed by, loops' and branches' insides too."""
    outputs = dict(zip(sorted(graph.structured_outputs), graph.outputs, strict=True))  # a dict's are sorted by name
    todo, seen = [outputs[name].op], set()
    while todo:
        operation = todo.pop()
        if operation.name not in seen:
            seen.add(operation.name)
            todo += [tensor.op for tensor in operation.inputs]
    nodes = [graph.graph.get_operation_by_name(each).node_def for each in seen]
    needed, inside = set(), set()
    while nodes:
        node = nodes.pop()
        needed.add((node.op, _type(node)))
        for function in set(_called(node)) - inside:
            inside.add(function)
            nodes += functions[function].node_def
            needed |= {(READ_AND_WRITTEN, "")} if _reads_what_it_writes(functions[function]) else set()
    return needed


def _type(node: Any) -> str:
    return tf.dtypes.as_dtype(node.attr["T"].type).name if node.attr["T"].type else ""


def _called(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        yield from (each.name for each in (value.func, *value.list.func) if each.name)


def _reads_what_it_writes(function: Any) -> bool:
    read, written = ({node.input[0] for node in function.node_def if node.op == f"TensorList{way}Item"} for way in ("Get", "Set"))
    return not read.isdisjoint(written)


def _listed(reasons: dict[str, list[str]]) -> str:
    return ", ".join(f"{name} ({', '.join(each)})" for name, each in reasons.items())


def _some_of(reasons: dict[str, list[str]]) -> str:
    """What is lacking for which answers; of much the first, and what is lacking altogether before what is for some numbers."""
    lacking = sorted({one for each in reasons.values() for one in each}, key=lambda one: (" of " in one, one))
    more = f" and {len(lacking) - TOLD} more" if len(lacking) > TOLD else ""
    return f"{', '.join(lacking[:TOLD])}{more} for {', '.join(reasons)}"
