"""From a model to the list of operations that bounds are computed for, through torch.fx."""

import copy
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from mirst.bounds.functions import FUNCTIONS
from mirst.bounds.operations import Dropped, Input, Operation, Rearrangement
from mirst.bounds.program import Program, Step
from mirst.bounds.rules import LAYERS
from mirst.bounds.values import Arguments, Constant, Ref, Refused, Value
from mirst.errors import MirstError
from mirst.nn.factory import in_words
from mirst.nn.layers.drop_max import drop_max2d


def trace(model: nn.Module) -> Program:
    """The operations of `model`, which is left unchanged.

    Whether a batch norm uses running statistics is decided in each pass, by the mode of the layer.

    Args:
        model: from `(N, C, H, W)` images to `(N, K)` logits.

    Raises:
        MirstError: a layer or function without a rule, named by its class and place; a model that torch.fx cannot
            follow.

    >>> import torch
    >>> from mirst.nn import build_model
    >>> model = build_model("resnet_tiny", in_channels=1, num_classes=2).eval()
    >>> program, x = trace(model), torch.rand(2, 1, 32, 32)
    >>> torch.allclose(program.at(x), model(x), atol=1e-5)
    True
    """
    steps = _Steps()
    logits = steps.layer(model, "", steps.add(Input()))
    return Program(steps.made[: logits.step + 1])


class _Steps:
    """Collects the steps of a program."""

    def __init__(self) -> None:
        self.made: list[Step] = []
        self._memory: list[int] = []
        """For each step, the first one that its value may share memory with."""
        self._lost: set[int] = set()
        """Steps whose values an operation in place has changed."""

    def add(self, operation: Operation, *inputs: Ref) -> Ref:
        for source in inputs:
            self.require_kept(source)
        self.made.append(Step(operation, tuple(source.step for source in inputs)))
        shares = len(inputs) == 1 and _may_be_a_view(operation)
        self._memory.append(self._memory[inputs[0].step] if shares else len(self._memory))
        return Ref(len(self.made) - 1)

    def require_kept(self, value: Ref) -> None:
        """Raise `Refused` if an operation in place has changed the value."""
        if value.step in self._lost:
            raise Refused("an operation in place has changed its input under another name, such as a view")

    def change(self, old: Ref, new: Ref) -> None:
        """An operation in place has written `new` over `old`, and over what shares its memory."""
        memory = self._memory[old.step]
        self._lost |= {step for step, other in enumerate(self._memory) if other == memory and step != new.step}
        self._memory[new.step] = memory

    def layer(self, layer: nn.Module, name: str, source: Ref) -> Ref:
        rule = LAYERS.get(type(layer))
        if "forward" in vars(layer) or layer._forward_hooks or layer._forward_pre_hooks:
            raise no_rule(type(layer).__name__, name, "it has a hook or a forward of its own")
        if rule is None:
            return self._traced(layer, name, source)
        try:
            return rule(self, layer, name, source)
        except Refused as reason:
            raise no_rule(type(layer).__name__, name, str(reason)) from reason

    def _traced(self, module: nn.Module, name: str, source: Ref) -> Ref:
        if type(module).__module__.startswith("torch.nn") and not isinstance(module, nn.Sequential):
            raise no_rule(type(module).__name__, name)
        return _Lowering(self, module, name).run(_graph(module, name), source)


def _recorded(function: Any) -> Any:
    return lambda proxy, other: proxy.tracer.create_proxy("call_function", function, (proxy, other), {})


class _Proxy(fx.Proxy):
    """Records `x += y` as in place. torch.fx alone records `x = x + y`, as if other names of x kept their value."""

    __iadd__ = _recorded(operator.iadd)
    __isub__ = _recorded(operator.isub)
    __imul__ = _recorded(operator.imul)
    __itruediv__ = _recorded(operator.itruediv)


class _Tracer(fx.Tracer):
    """Goes into each module but those that have a rule, and those of torch that have none."""

    proxy_buffer_attributes = True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in LAYERS or super().is_leaf_module(m, module_qualified_name)


def _graph(model: nn.Module, name: str) -> fx.Graph:
    """Traced on a copy: a proxy that a forward stores must not stay in the model."""
    try:
        return _Tracer(autowrap_functions=(drop_max2d,)).trace(copy.deepcopy(model))
    except Exception as error:
        place = f"the part {name} of the model" if name else "the model"
        raise MirstError(
            f"torch.fx cannot follow {place} ({type(model).__name__}), so mirst has no bounds for it: "
            f"{in_words(error).splitlines()[0]}; write its forward without branches on values"
        ) from error


class _Lowering:
    """Turns the graph of one traced module into steps."""

    def __init__(self, steps: _Steps, module: nn.Module, name: str) -> None:
        self.steps = steps
        self.module = module
        self.name = name
        self.values: dict[fx.Node, Value] = {}

    def run(self, graph: fx.Graph, source: Ref) -> Ref:
        if sum(node.op == "placeholder" and not node.args for node in graph.nodes) != 1:
            raise no_rule(type(self.module).__name__, self.name, "it takes more than the images")
        for node in graph.nodes:
            if node.op == "output":
                returned = node.args[0]
                break
            self.values[node] = self._value(node, source)
        value = self.values.get(returned) if isinstance(returned, fx.Node) else None
        if not isinstance(value, Ref):
            raise no_rule(type(self.module).__name__, self.name, "it returns more than one value of the images")
        try:
            self.steps.require_kept(value)
        except Refused as reason:
            raise no_rule(type(self.module).__name__, self.name, str(reason)) from reason
        return value

    def _value(self, node: fx.Node, source: Ref) -> Value:
        given = Arguments(self._filled(node.args), self._filled(node.kwargs))
        match node.op:
            case "placeholder":
                return Constant(lambda: given.positional[0]) if node.args else source
            case "get_attr":
                return self._attribute(str(node.target))
            case "call_module":
                return self._layer(node, given)
        if given.refs() or given.depend_on_shape():
            return self._call(node, given)
        if _works_in_place(node, str(node.target)):
            raise no_rule(type(self.module).__name__, self.name, "its forward changes a tensor of the model in place")
        return _constant(node, given)

    def _attribute(self, name: str) -> Constant:
        if name.startswith("_tensor_constant"):  # fx puts it into the traced copy
            raise no_rule(type(self.module).__name__, self.name, "its forward makes a tensor; register it as a buffer")
        return Constant(lambda: operator.attrgetter(name)(self.module))

    def _filled(self, argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda node: self.values[node])  # type: ignore[return-value, arg-type]

    def _layer(self, node: fx.Node, given: Arguments) -> Ref:
        layer = self.module.get_submodule(str(node.target))
        name = ".".join(filter(None, (self.name, str(node.target))))
        if given.keywords or len(given.positional) != 1 or not isinstance(given.positional[0], Ref):
            raise no_rule(type(layer).__name__, name, "it is called with more than one value")
        value = self.steps.layer(layer, name, given.positional[0])
        if getattr(layer, "inplace", False):
            self._replace(given.positional[0], value)
        return value

    def _call(self, node: fx.Node, given: Arguments) -> Value:
        called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        name = ".".join(filter(None, (self.name, _place(node))))
        rule = FUNCTIONS.get(node.target)
        if rule is None:
            raise _no_function(called, name)
        try:
            value = rule(self.steps, given, name or called)
        except Refused as reason:
            raise _no_function(called, name, str(reason)) from reason
        if _works_in_place(node, called) and isinstance(value, Ref) and isinstance(given.positional[0], Ref):
            self._replace(given.positional[0], value)
        return value

    def _replace(self, old: Ref, new: Ref) -> None:
        """After an operation in place, the changed tensor has the new value under all of its names."""
        if new != old:
            self.values.update({node: new for node, value in self.values.items() if value == old})
            self.steps.change(old, new)


def _constant(node: fx.Node, given: Arguments) -> Constant:
    """The result of a call that no value of the images enters."""

    def read() -> Any:
        positional, keywords = given.read()
        if callable(node.target):
            return node.target(*positional, **keywords)
        return getattr(positional[0], node.target)(*positional[1:], **keywords)

    return Constant(read)


def _works_in_place(node: fx.Node, called: str) -> bool:
    in_place = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
    by_position = node.target in (F.relu, F.relu6, F.leaky_relu) and True in node.args[1:]
    return node.target in in_place or called.endswith("_") or node.kwargs.get("inplace") is True or by_position


def _may_be_a_view(operation: Operation) -> bool:
    if isinstance(operation, Rearrangement):
        return operation.function is not torch.clone
    return isinstance(operation, Dropped)


def _place(node: fx.Node) -> str:
    """The qualified name of the module whose forward contains `node`."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(next(reversed(stack.values()))[0]) if stack else ""


def no_rule(kind: str, name: str, reason: str = "") -> MirstError:
    """What is said of a layer without bounds."""
    return MirstError(
        f"the layer {name or 'model'} ({kind}) has no bounds in mirst{f': {reason}' if reason else ''}; replace it, or "
        "report attacks alone"
    )


def _no_function(called: str, name: str, reason: str = "") -> MirstError:
    return MirstError(
        f"the call of {called} in {name or 'the model'} has no bounds in mirst{f': {reason}' if reason else ''}; "
        "replace it, or report attacks alone"
    )
