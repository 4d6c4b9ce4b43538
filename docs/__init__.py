"""The site: its pages in Markdown, and the scripts that run the lessons and build it."""
