/* What the pages are drawn for: the scheme that a person has chosen, or else the system's, and the width. */
(function () {
  const KEY = "mantine-color-scheme-value"; // Mantine's own
  const dark = matchMedia("(prefers-color-scheme: dark)"), phone = matchMedia("(max-width: 640px)");
  const chosen = () => localStorage.getItem(KEY);
  const isDark = () => (["dark", "light"].includes(chosen()) ? chosen() === "dark" : dark.matches);
  const look = () => ({ dark: isDark(), phone: phone.matches, query: location.search });
  /* The table's script comes with the page that has the table. */
  let grid = null;
  const gridThere = () => grid = grid || new Promise((there, away) => {
    const script = document.createElement("script");
    script.src = document.querySelector("meta[name=grid-script]").content;
    script.onload = there;
    script.onerror = () => { grid = null; away(new Error("the table's script does not come")); };
    document.head.append(script);
  });
  const arrive = async (path) => {
    if (/^\/study\/[^/]+\/trials\/?$/.test(path)) await gridThere();
    return look();
  };
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
  /* While the storage or the dashboard does not answer, the page stays and says so; its clocks ask again. */
  let why = null, answered = Date.now();
  const showAway = () => {
    const banner = document.getElementById("away");
    if (!banner) return;
    banner.hidden = !why;
    if (!why) return;
    const age = Math.round((Date.now() - answered) / 1000);
    document.getElementById("away-what").textContent = `The ${why.who} does not answer`;
    document.getElementById("away-why").textContent =
      `${why.text ? `${why.text}. ` : ""}What you see is ${age} s old; it is asked again every 3 s.`;
  };
  const ask = window.fetch;
  window.fetch = async (resource, options) => {
    if (!String(resource.url || resource).includes("_dash-update-component")) return ask(resource, options);
    try {
      const answer = await ask(resource, options);
      if (answer.status === 503) why = { who: "storage", text: await answer.clone().text() };
      else if (answer.status < 500) { why = null; answered = Date.now(); }
      return answer;
    } catch (error) {
      if (error.name !== "AbortError") why = { who: "dashboard", text: "" };
      throw error;
    } finally { showAway(); }
  };
  setInterval(() => {
    showAway();
    if (!why || Math.round((Date.now() - answered) / 1000) % 3) return;
    // a dashboard that was started anew takes no requests of an old page; one that has not come has no clock
    if (why.who === "dashboard") ask("/healthz").then((answer) => answer.ok && location.reload(), () => {});
    else if (document.querySelector("#page > .mantine-Skeleton-root")) tell();
  }, 1000);
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
  window.dash_clientside.jointsearch = { arrive, bound };
})();
