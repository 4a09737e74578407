"""Stitch executed notebooks into the pages of a Jupyter Book.

A page holds the comment `<!-- @demo:num="3" -->`, alone on its line. At build time the notebook `03-slug.ipynb` is
executed and takes the comment's place: its story, its code and what it really printed. So nothing that looks like
output is ever typed by hand, and a demo that no longer works stops the book.

    sphinx:
      extra_extensions: [bookstitch]
      config:
        bookstitch_notebooks: demos          # folder of NN-slug.ipynb, beside _config.yml
        bookstitch_timeout: 60               # seconds a whole notebook may take
        bookstitch_workers: 0                # notebooks at a time; 0 means one a core, four at most
        bookstitch_parameters: {}            # handed to every notebook, by papermill
        bookstitch_sources: []               # folders or files whose change outdates every result
        bookstitch_allow_unused: false       # notebooks that no page shows are a fault, unless this is true
        bookstitch_web: ""                   # folder with a package.json: browser files to host with the book

A notebook speaks for itself in its metadata: `"bookstitch": {"alone": true}` runs it beside no other, `{"unused": true}`
says that no page needs to show it.

Smaller things than a notebook have directives: `terminal` runs a session of commands, kills included, and shows what they
printed; `drawn` shows a figure that a function returns, `doctable` the table of a module's docstring; `edition` prints the
commit, the date and the versions of the build. Long lines of quoted source wrap under themselves.

Reading order: `marker` (what counts as a marker), `demos` (which notebooks there are), `digest` (when a result is
stale), `kernel` and `execute` (running them), `leaks` (what output must not show), `render` (notebook to page),
`terminal`, `drawn` and `wrap`, `extension` (the build's events, where it all meets). `settings`, `problems`, `edition`, `web`,
`check` are small helpers.

Limits: a footnote inside a notebook is not carried over to the page; notebooks run on the Python that builds the book.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx; imported late, so that the command line needs no Sphinx to execute notebooks."""
    from bookstitch.extension import setup as setup_extension

    return setup_extension(app)
