"""Sliders and menus over a plain function, so that a reader can turn one knob and watch."""

import inspect

# JupyterLab marks the control that has the focus by a thin line, and a slider's handle not at all.
RING = "outline:3px solid var(--jp-brand-color1)!important;outline-offset:2px"
FOCUS = f"<style>.course-controls :focus-visible{{{RING}}}</style>"
# ipywidgets gives a slider's handle no name, and lets it speak of positions where the reader sees values. This script
# runs before the controls are on the page, so it waits for that and then watches them.
SPOKEN = """
function speak(area) {
  for (const slider of area.querySelectorAll('.widget-slider')) {
    const said = {'aria-label': '.widget-label', 'aria-valuetext': '.widget-readout'};
    for (const [attribute, place] of Object.entries(said)) {
      const text = slider.querySelector(place)?.textContent, handle = slider.querySelector('[role=slider]');
      if (text && handle && handle.getAttribute(attribute) !== text) handle.setAttribute(attribute, text);
    }
  }
}
function watch() {
  const area = element.closest('.jp-OutputArea');
  if (!area) return requestAnimationFrame(watch);
  new MutationObserver(() => speak(area)).observe(area, {subtree: true, childList: true, attributes: true});
  speak(area);
}
if (typeof element !== 'undefined' && element.closest) watch();
"""


def explore(function, **controls):
    """Show what `function` returns, and controls that call it again with other values.

    function: takes keyword arguments and returns what is to be shown (a `plots.Figure`, a table), or a tuple of such.
    controls: one for each argument that can be changed.
        bits=[2, 4, 8]                           a slider over these numbers
        scheme=["asymmetric", "symmetric"]       a menu; {"shown name": value} gives names of your own
        share=(0.1, 1.0, 0.05)                   a slider from low to high in steps
        signed=False                             a box to tick
    The first picture shows the function's own default for an argument, else the first value of its control. It is an
    ordinary output of the cell: it stays in a printed or exported notebook, where the controls cannot move.

    Outside a notebook this is a plain call, and returns what the function returns for the first setting.
    Raises ValueError for an empty control or a default that its control does not offer, TypeError for other kinds.
    """
    if not controls:
        raise ValueError("Name at least one control, such as bits=[2, 4, 8].")
    offered = {name: _offers(name, control) for name, control in controls.items()}
    setting = {name: _start(function, name, options) for name, options in offered.items()}
    if not _in_notebook():
        return function(**setting)
    _show(function, offered, setting)
    return None


def _offers(name, control) -> dict:
    """What a control lets one choose, as {shown text: value}."""
    if isinstance(control, bool):
        return {"no": False, "yes": True} if not control else {"yes": True, "no": False}
    if isinstance(control, tuple):
        control = _steps(name, control)
    if isinstance(control, (list, range)):
        control = {f"{value:g}" if isinstance(value, (int, float)) else str(value): value for value in control}
    if not isinstance(control, dict):
        raise TypeError(
            f"The control {name!r} is a {type(control).__name__}; give a list, a dict, a bool or (low, high, step)."
        )
    if not control:
        raise ValueError(f"The control {name!r} offers nothing to choose from.")
    return control


def _steps(name, control) -> list:
    if len(control) != 3 or not control[0] < control[1] or not control[2] > 0:
        raise ValueError(f"The control {name!r} is {control}; give (low, high, step), low < high and step > 0.")
    low, high, step = control
    count = int((high - low) / step + 1e-9)
    return [round(low + i * step, 10) for i in range(count + 1)]


def _start(function, name, options):
    parameter = inspect.signature(function).parameters.get(name)
    if parameter is None or parameter.default is inspect.Parameter.empty:
        return next(iter(options.values()))
    if parameter.default not in options.values():
        raise ValueError(
            f"{name} starts at {parameter.default!r}, which its control does not offer: {', '.join(options)}."
        )
    return parameter.default


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def _show(function, offered, setting):
    import ipywidgets
    from IPython.display import display

    knobs = {name: _knob(ipywidgets, name, options, setting[name]) for name, options in offered.items()}
    display(controls(knobs.values()))
    if any(isinstance(knob, ipywidgets.SelectionSlider) for knob in knobs.values()):
        display({"application/javascript": SPOKEN, "text/plain": ""}, raw=True)
    handles = [display(part, display_id=True) for part in _parts(function(**setting))]

    def redraw(_change):
        parts = _parts(function(**{name: knob.value for name, knob in knobs.items()}))
        for handle, part in zip(handles, parts, strict=True):
            handle.update(part)

    for knob in knobs.values():
        knob.observe(redraw, names="value")


def controls(parts):
    """Widgets below one another, in a box that shows clearly which of them has the focus."""
    import ipywidgets

    return ipywidgets.VBox([*parts, ipywidgets.HTML(FOCUS, layout={"display": "none"})]).add_class("course-controls")


def _knob(ipywidgets, name, options, value):
    look = {"description": name.replace("_", " "), "style": {"description_width": "initial"}}
    values = list(options.values())
    if all(isinstance(v, bool) for v in values):
        return ipywidgets.Checkbox(value=value, **look)
    choices = list(options.items())
    if all(isinstance(v, (int, float)) for v in values):
        # Waits until the slider rests: a picture for every position passed would queue up behind the reader's hand.
        return ipywidgets.SelectionSlider(options=choices, value=value, continuous_update=False, **look)
    return ipywidgets.Dropdown(options=choices, value=value, **look)


def _parts(output) -> tuple:
    parts = output if isinstance(output, tuple) else (output,)
    if any(part is None for part in parts):
        raise TypeError("The function returned None: let it return the figure or table that is to be shown.")
    return parts
