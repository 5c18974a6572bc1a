/* What the pages are drawn for: the scheme that a person has chosen, or else the system's, and the width. */
(function () {
  const KEY = "mantine-color-scheme-value"; // Mantine's own
  const dark = matchMedia("(prefers-color-scheme: dark)"), phone = matchMedia("(max-width: 640px)");
  const chosen = () => localStorage.getItem(KEY);
  const isDark = () => (["dark", "light"].includes(chosen()) ? chosen() === "dark" : dark.matches);
  const look = () => ({ dark: isDark(), phone: phone.matches, query: location.search });
  const tell = () => {
    document.documentElement.setAttribute("data-mantine-color-scheme", isDark() ? "dark" : "light");
    dash_clientside.set_props("look", { data: look() });
  };
  dark.addEventListener("change", tell);
  phone.addEventListener("change", tell);
  document.addEventListener("click", (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      if (navigator.clipboard) navigator.clipboard.writeText(copy.dataset.copy);
      copy.querySelector(".mantine-Button-label").textContent = "Copied";
    }
    if (event.target.closest("#scheme")) {
      localStorage.setItem(KEY, isDark() ? "light" : "dark");
      tell();
    }
  });
  window.dash_clientside = window.dash_clientside || {};

  /* The slider and the number beside it say the same; the address has it, so that it can be shared. */
  const bound = (slider, number, steps, axis, factor, by) => {
    const none = dash_clientside.no_update;
    const fromNumber = dash_clientside.callback_context.triggered_id === "number";
    const value = fromNumber ? Number(number) * factor : slider;
    if (!Number.isFinite(value)) return [none, none];
    history.replaceState(history.state, "", `?by=${by}&bound=${value}&steps=${steps}&axis=${axis}`);
    return fromNumber ? [value, none] : [none, Number((value / factor).toPrecision(5))];
  };
  window.dash_clientside.jointsearch = { look, bound };
})();
