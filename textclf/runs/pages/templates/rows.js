"use strict";
// Filters the table of rows. Without this script, all rows are visible, and a link to a pair of labels shows its group.
(() => {
  const section = document.getElementById("rows");
  const form = section.querySelector("form");
  const found = section.querySelector(".found");
  const numbers = (text) => new Set(text.split(" ").filter(Boolean));
  const folded = (text) => text.normalize("NFKC").toLowerCase();
  const groups = [...section.querySelectorAll("tbody")].map((body) => ({
    body,
    true: numbers(body.dataset.true),
    predicted: numbers(body.dataset.predicted),
    wrong: body.classList.contains("wrong"),
    rows: Number(body.dataset.rows),
    more: body.querySelector(".more"),
    shown: [...body.querySelectorAll("tr:not(.more)")].map((line) => ({ line, text: null })),
  }));

  // Of wrong rows, a chosen label is one that is missing or that is wrong.
  const fits = (group, label, has, lacks, wrong) => !label || (group[has].has(label) && !(wrong && group[lacks].has(label)));

  const textOf = (row) => {
    row.text ??= folded([...row.line.cells].filter((_, place) => searched[place]).map((cell) => cell.textContent).join("\n"));
    return row.text;
  };
  const titles = [...section.querySelectorAll("thead th")];
  const searched = titles.map((title) => title.dataset.searched !== undefined);

  function filter() {
    const wanted = folded(form.elements.wanted.value.trim());
    const wrong = form.elements.wrong.checked;
    const chosen = { true: form.elements.true?.value, predicted: form.elements.predicted?.value };
    let shown = 0;
    let all = 0;
    let leftOut = 0;
    for (const group of groups) {
      all += group.rows;
      const isChosen = (group.wrong || !wrong)
        && fits(group, chosen.true, "true", "predicted", wrong) && fits(group, chosen.predicted, "predicted", "true", wrong);
      let some = 0;
      for (const row of isChosen ? group.shown : []) {
        const matches = !wanted || row.line.cells[0].textContent === wanted || textOf(row).includes(wanted);
        if (row.line.hidden === matches) row.line.hidden = !matches;
        some += matches;
      }
      if (group.more) group.more.hidden = Boolean(wanted);
      group.body.hidden = !some;
      shown += some;
      if (isChosen) leftOut += group.rows - group.shown.length;
    }
    found.textContent = `${shown.toLocaleString("en")} of ${all.toLocaleString("en")} shown`
      + (leftOut ? `; ${leftOut.toLocaleString("en")}${wanted ? ", which were not searched," : " more"} are only in ${section.dataset.file}` : "");
  }

  // A link `#rows-3-5` chooses the rows with true label 3 and predicted label 5; either may be missing.
  function choose() {
    const link = /^#rows-(\d*)-(\d*)$/.exec(location.hash);
    if (!link || !form.elements.true) return;
    form.elements.wanted.value = "";
    form.elements.true.value = link[1];
    form.elements.predicted.value = link[2];
    form.elements.wrong.checked = Boolean(link[1] && link[2] && link[1] !== link[2]);
    filter();
    section.querySelector(".window").scrollTop = 0;
    section.scrollIntoView();
  }

  // Afterwards the same link can be followed again.
  function forget() {
    if (location.hash.startsWith("#rows-")) history.replaceState(null, "", "#rows");
  }

  for (const option of form.elements.true?.options ?? []) form.elements.predicted.append(option.cloneNode(true));
  document.documentElement.classList.add("scripted");
  form.hidden = false;
  form.addEventListener("input", () => { forget(); filter(); });
  form.addEventListener("reset", () => { forget(); setTimeout(filter); });
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", choose);
  filter();
  choose();
})();
