/* Two faults between Jupyter's widgets and the book's theme, bridged here.
 *
 * 1. The theme's Font Awesome replaces every later <i class="fa"> by an <svg>. The Play widget then finds its icon gone
 *    and throws, which also stops every jslink that hangs on it. So: leave nodes alone that come after the first pass.
 * 2. The widgets typeset with the queue of MathJax 2. It is given here in terms of MathJax 3.
 *
 * Loaded before both; the widgets' script waits for the page's load event, MathJax 3 sets itself up before that. */
window.FontAwesomeConfig = Object.assign({ observeMutations: false }, window.FontAwesomeConfig);

document.addEventListener("DOMContentLoaded", () => {
  if (!window.MathJax || !window.MathJax.startup || window.MathJax.Hub) return;
  window.MathJax.Hub = {
    Queue(job) {
      const element = Array.isArray(job) ? job[2] : null;
      if (element) window.MathJax.startup.promise.then(() => window.MathJax.typesetPromise([element]));
    },
  };
});
