/* The table of all trials: what the browser does alone. */
(function () {
  window.dash_clientside = window.dash_clientside || {};
  /* The address has what the table is filtered by, so that it can be shared. */
  const keep = (name, value) => {
    const asked = new URLSearchParams(location.search);
    if (value) asked.set(name, value); else asked.delete(name);
    history.replaceState(history.state, "", asked.size ? `?${asked}` : location.pathname);
  };
  window.dash_clientside.jointsearch_trials = {
    kind: (kind) => {
      keep("kind", kind === "all" ? "" : kind);
      return kind === "all" ? {} : { kind: { filterType: "text", type: "equals", filter: kind } };
    },
    filter: (text, options) => {
      keep("filter", text);
      return { ...options, quickFilterText: text || "" };
    },
    columns: (shown, optional, columns) =>
      columns.map((column) => ({
        ...column, hide: optional.includes(column.field) && !(shown || []).includes(column.field),
      })),
    save: (clicks) => Boolean(clicks),
    /* Rows that the table shows come to the front; where it shows all, the Pareto front does. */
    lines: (rows, data, figure) => {
      const none = window.dash_clientside.no_update;
      if (!rows || !data || !figure) return none;
      const measured = rows.map((row) => row.trial).filter((trial) => data.lines[trial]);
      const all = measured.length === Object.keys(data.lines).length;
      const front = new Set(all ? data.front : measured);
      const count = figure.layout.xaxis.range[1] + 0.8;
      const traced = [[], []].map(() => ({ x: [], y: [] }));
      for (const [trial, places] of Object.entries(data.lines)) {
        const trace = traced[front.has(Number(trial)) ? 1 : 0];
        places.slice(0, Math.round(count)).forEach((place, axis) => { trace.x.push(axis); trace.y.push(place); });
        trace.x.push(null);
        trace.y.push(null);
      }
      return { ...figure, data: figure.data.map((trace, number) => ({ ...trace, ...traced[number] })) };
    },
  };
  /* A plan's name leads to its page: text stays text. */
  const grid = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
  grid.PlanLink = (props) => {
    if (props.data.state !== "complete") return props.value;
    const address = `/study/${encodeURIComponent(props.context.study)}/plan/${props.data.trial}`;
    return React.createElement("a", { href: address }, props.value);
  };
})();
