"""Reports: feedback pages, the class page, and grades for other programs."""
