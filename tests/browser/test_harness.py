"""The tests in a browser would hear an error of ours, and axe would see a fault: proved on pages that have one."""

import pytest

from tests.browser.access import serious_faults
from tests.browser.jupyterlab import heard

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture
def page(chromium):
    page = chromium.new_page()
    yield page
    page.close()


def test_errors_of_the_console_are_heard(page):
    errors = heard(page)
    page.set_content("<script>console.log('fine'); console.error('not fine')</script><script>missing()</script>")
    page.wait_for_function("document.readyState === 'complete'")
    assert len(errors) == 2
    assert "not fine" in errors[0]
    assert "missing is not defined" in errors[1]


def test_faults_are_found_and_only_where_they_were_looked_for(page):
    page.set_content(
        "<html lang='en'><title>t</title><main><h1>t</h1><div class=a><img src='data:,'></div>"
        "<div class=b>fine</div></main></html>"
    )
    assert "image-alt" in serious_faults(page, ".a")[0]
    assert serious_faults(page, ".b") == []
    assert len(serious_faults(page)) == 1
