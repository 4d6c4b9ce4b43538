"""What axe-core finds wrong with a page, for people who cannot see it, or see it without colour."""

from axe_playwright_python.sync_playwright import Axe

SERIOUS = ("serious", "critical")


def serious_faults(page, *parts: str) -> list[str]:
    """Each serious or critical fault inside these parts of a page (CSS selectors; else all of it), a line each."""
    found = Axe().run(page, context={"include": [[part] for part in parts]} if parts else None).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for fault in found
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]
