"""A notebook in JupyterLab, as a learner meets it: cells to run, type into and look at."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

PATIENT, LONG = 180_000, 600_000  # milliseconds for one answer of the page, and for the cells of a lesson
PANEL = "const panel = window.jupyterapp?.shell.currentWidget; const notebook = panel?.content;"
IDLE = "panel.sessionContext.session?.kernel?.status === 'idle'"
# Errors in the console that are JupyterLab's own: its server answers 500 when it is asked for the kernels in the moment
# in which one starts (jupyter_server 2.21: "The 'last_activity' trait ... expected a datetime").
NOT_OURS = (r"status of 500 .*/api/kernels\b",)


@dataclass(frozen=True)
class Lab:
    """Where JupyterLab runs, and the folder that holds its workspace and the learner's points."""

    address: str
    token: str
    home: Path

    def environment(self) -> dict[str, str]:
        """Where JupyterLab and the course keep what they keep for this learner, each in a folder of its own."""
        folders = {
            "COURSE_DATA": "points",
            "COURSE_WORKSPACE": "workspace",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "layouts",
        }
        return {name: str(self.home / folder) for name, folder in folders.items()}

    def points(self, lesson: str) -> dict[str, float]:
        """What the learner has earned in a lesson so far."""
        file = self.home / "points" / "progress.json"
        return json.loads(file.read_text()).get(lesson, {}) if file.exists() else {}


def heard(page) -> list[str]:
    """A list that fills with the errors of the page's console that concern us."""
    errors = []

    def hear(message) -> None:
        said = f"{message.text} {message.location.get('url', '')}"
        if message.type == "error" and not any(re.search(pattern, said) for pattern in NOT_OURS):
            errors.append(said)

    page.on("console", hear)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors


class Notebook:
    """One notebook, open in a page of its own. `errors` holds what the page's console said that concerns us."""

    def __init__(self, browser, lab: Lab, name: str, width: int = 1280, height: int = 900):
        self.page = browser.new_context(viewport={"width": width, "height": height}).new_page()
        self.page.set_default_timeout(PATIENT)
        self.errors = heard(self.page)
        self.page.goto(f"{lab.address}/lab/tree/{name}?token={lab.token}&reset")
        self.until(f"panel.context?.path === argument && notebook.widgets.length && {IDLE}", name)

    def ask(self, expression: str, argument=None):
        """The value of a JavaScript expression over `panel`, `notebook` and `argument`."""
        return self.page.evaluate(f"argument => {{{PANEL} return {expression}}}", argument)

    def until(self, expression: str, argument=None, timeout: int = PATIENT) -> None:
        """Wait until such an expression is true."""
        wait = f"argument => {{{PANEL} return panel && {expression}}}"
        self.page.wait_for_function(wait, arg=argument, timeout=timeout)

    def do(self, command: str, **arguments) -> None:
        """Run a command of JupyterLab's menus, without waiting for its end: a dialog may follow."""
        self.page.evaluate("([command, given]) => {jupyterapp.commands.execute(command, given)}", [command, arguments])

    def find(self, key: str, value: str) -> int:
        """The position of the cell with this metadata, such as "exercise", "quantize"."""
        return self.ask(
            "notebook.widgets.findIndex(cell => cell.model.getMetadata(argument[0]) === argument[1])", [key, value]
        )

    def holding(self, text: str) -> int:
        """The position of the first code cell whose source holds this text."""
        return self.ask(
            "notebook.widgets.findIndex(cell => cell.model.type === 'code' && "
            "cell.model.sharedModel.getSource().includes(argument))",
            text,
        )

    def source(self, position: int) -> str:
        """What a cell holds."""
        return self.ask("notebook.widgets[argument].model.sharedModel.getSource()", position)

    def cell(self, position: int):
        """The locator of a cell."""
        shown = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        return shown.locator(f".jp-Cell[data-windowed-list-index='{position}']")

    def select(self, position: int):
        """Go to a cell, in command mode; returns its locator."""
        self.ask(
            "(notebook.mode = 'command', notebook.deselectAll(), notebook.activeCellIndex = argument, "
            "notebook.scrollToItem(argument, 'start'))",
            position,
        )
        cell = self.cell(position)
        cell.wait_for()
        cell.focus()
        return cell

    def start(self, position: int):
        """Run a cell by keyboard, without waiting for its end; returns its locator."""
        cell = self.select(position)
        self.ask("notebook.widgets[argument].model.executionCount = null", position)
        self.page.keyboard.press("Control+Enter")
        return cell

    def run(self, position: int, timeout: int = LONG):
        """Run a cell by keyboard and wait until it is done; returns its locator."""
        cell = self.start(position)
        self.until(f"notebook.widgets[argument].model.executionCount !== null && {IDLE}", position, timeout)
        return cell

    def stop(self, cell) -> None:
        """Interrupt a running cell by its two keys, and wait until the kernel takes the next.

        A kernel shows an error before it replies to the request, and then drops every request that came meanwhile: a
        cell started too early would never run.
        """
        self.page.keyboard.press("i")
        self.page.keyboard.press("i")
        cell.get_by_text("KeyboardInterrupt").first.wait_for()
        self.until(IDLE)

    def run_many(self, command: str, timeout: int = LONG) -> None:
        """Run cells by a command of the menu Run, and wait until the last is done."""
        self.page.evaluate(
            "command => {window.ran = false; jupyterapp.commands.execute(command).then(() => {window.ran = true})}",
            command,
        )
        self.until(f"window.ran && {IDLE}", timeout=timeout)

    def write(self, position: int, source: str):
        """Replace what a cell holds, by keyboard, and run it; returns its locator."""
        self.select(position)
        self.page.keyboard.press("Enter")
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(source)
        self.until("notebook.widgets[argument[0]].model.sharedModel.getSource() === argument[1]", [position, source])
        self.page.keyboard.press("Escape")
        return self.run(position)

    def tab_to(self, found: str, most: int = 30) -> None:
        """Press Tab until the element with the focus matches a CSS selector."""
        for _ in range(most):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("found => document.activeElement.matches(found)", found):
                return
        raise AssertionError(f"Tab does not reach {found} in {most} steps")

    def restart(self) -> None:
        """Restart the kernel by its two keys, and say yes."""
        self.page.keyboard.press("0")
        self.page.keyboard.press("0")
        self.page.locator(".jp-Dialog").get_by_role("button", name="Confirm Kernel Restart").click()
        self.until(f"{IDLE} && !panel.sessionContext.isRestarting")

    def raised(self) -> list[str]:
        """The errors that cells ended with."""
        return self.ask(
            "notebook.widgets.flatMap(cell => cell.model.outputs?.toJSON() ?? [])"
            ".filter(output => output.output_type === 'error').map(output => output.ename + output.evalue)"
        )

    def close(self) -> None:
        """End the kernel and leave the page."""
        self.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.context.close()
