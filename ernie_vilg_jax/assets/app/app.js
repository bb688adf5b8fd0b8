// What the page does in the browser: images and masks of visitors, the visit's history, and whether the model is ready.
(() => {
  const WAYS = ["text", "image", "mask"];
  const KEPT = 24; // entries of the history
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

  // ---- an image to begin with, and a mask painted on it: of the size of the images, made in the browser -------------

  function prepare(given) {
    if (given.dataset.ready) return;
    given.dataset.ready = "yes";
    if (sized) resize(given); // a tab is made when it is opened
    const picture = given.querySelector(".picture"), mask = given.querySelector(".mask");
    given.querySelector("input[type=file]").addEventListener("change", async (event) => {
      const file = event.target.files[0];
      if (!file) return;
      try {
        given.image = await createImageBitmap(file, { imageOrientation: "from-image" });
        drawMiddle(given.image, picture);
        given.dataset.chosen = "yes";
        if (mask) clear(mask);
      } catch {
        delete given.dataset.chosen;
        delete given.image;
        picture.getContext("2d").clearRect(0, 0, picture.width, picture.height);
        alert("This file cannot be read as an image. · 无法读取这个图片。");
      }
    });
    if (!mask) return;
    given.querySelector(".clear").addEventListener("click", () => clear(mask));
    let last = null;
    const place = (event) => {
      const box = mask.getBoundingClientRect();
      const [across, down] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      return [across * mask.width, down * mask.height];
    };
    const paint = (event) => {
      const here = place(event), context = mask.getContext("2d");
      context.strokeStyle = "white";
      context.lineCap = context.lineJoin = "round";
      context.lineWidth = (Number(given.querySelector(".brush").value) / 100) * Math.min(mask.width, mask.height);
      context.beginPath();
      context.moveTo(...(last || here));
      context.lineTo(here[0] + 0.01, here[1]);
      context.stroke();
      last = here;
      given.dataset.painted = "yes";
    };
    mask.addEventListener("pointerdown", (event) => { mask.setPointerCapture(event.pointerId); last = null; paint(event); });
    mask.addEventListener("pointermove", (event) => { if (event.buttons) paint(event); });
    mask.addEventListener("pointerup", () => { last = null; });
  }

  function drawMiddle(image, sheet) { // the middle of an image, as large as fits, over the whole sheet
    const wide = image.naturalWidth || image.width, high = image.naturalHeight || image.height;
    const context = sheet.getContext("2d"), times = Math.min(wide / sheet.width, high / sheet.height);
    const width = sheet.width * times, height = sheet.height * times;
    context.fillStyle = "white";
    context.fillRect(0, 0, sheet.width, sheet.height);
    context.imageSmoothingQuality = "high";
    const left = (wide - width) / 2, top = (high - height) / 2;
    context.drawImage(image, left, top, width, height, 0, 0, sheet.width, sheet.height);
  }

  // Images of another size, "HEIGHTxWIDTH": what was chosen is cut again, and what was painted is gone.
  let sized = "";
  window.ernieSize = (size) => {
    sized = size;
    all(".given").forEach(resize);
  };

  function resize(given) {
    const [height, width] = sized.split("x").map(Number);
    given.querySelector(".sheets").style.aspectRatio = `${width} / ${height}`;
    for (const sheet of all("canvas", given)) Object.assign(sheet, { width, height });
    if (given.image) drawMiddle(given.image, given.querySelector(".picture"));
    delete given.dataset.painted;
  }

  function clear(mask) {
    mask.getContext("2d").clearRect(0, 0, mask.width, mask.height);
    delete mask.closest(".given").dataset.painted;
  }

  function asMask(mask) { // white where painted, black elsewhere
    const sheet = document.createElement("canvas"), context = sheet.getContext("2d");
    Object.assign(sheet, { width: mask.width, height: mask.height });
    context.fillRect(0, 0, mask.width, mask.height);
    context.drawImage(mask, 0, 0);
    return sheet.toDataURL("image/png");
  }

  // The values that are sent: the last four are the way, the image, the mask and the strength.
  window.ernieValues = (...values) => {
    const way = chosenWay();
    const given = document.querySelector(`#given-${way} .given`);
    const image = given && given.dataset.chosen ? given.querySelector(".picture").toDataURL("image/png") : "";
    const mask = way === "mask" && given.dataset.painted ? asMask(given.querySelector(".mask")) : "";
    return [...values.slice(0, -4), way, image, mask, ...values.slice(-1)];
  };

  function chosenWay() {
    const place = all("#ways [role=tab]").findIndex((tab) => tab.getAttribute("aria-selected") === "true");
    return WAYS[Math.max(0, place)];
  }

  // ---- the history of the visit -------------------------------------------------------------------------------------

  const stored = () => { try { return JSON.parse(sessionStorage.getItem("visit")) || []; } catch { return []; } };

  function showVisit() {
    const place = document.getElementById("visit"), entries = stored();
    if (!place || place.dataset.shown === String(entries.length + (entries[0] || {}).link)) return;
    place.dataset.shown = String(entries.length + (entries[0] || {}).link);
    place.replaceChildren();
    if (!entries.length) return;
    const title = document.createElement("h3"), row = document.createElement("div");
    title.textContent = "This visit · 本次生成";
    for (const { link, label, image } of entries) {
      const entry = document.createElement("a"), shown = document.createElement("img");
      Object.assign(entry, { href: link, title: label });
      Object.assign(shown, { src: image, alt: label });
      entry.append(shown, document.createElement("br"), label);
      row.append(entry);
    }
    place.append(title, row);
  }

  async function remember(link) {
    await new Promise((resolve) => setTimeout(resolve, 500)); // the gallery may still show previews
    const label = document.getElementById("prompt-made")?.textContent;
    const image = document.querySelector("#pictures .grid-container img");
    if (!image || !label) return false;
    await image.decode().catch(() => {});
    const small = document.createElement("canvas"); // its own pixels: the server deletes its files
    small.width = small.height = 96;
    drawMiddle(image, small);
    const entries = [{ link, label, image: small.toDataURL("image/png") }, ...stored().filter((one) => one.link !== link)];
    try { sessionStorage.setItem("visit", JSON.stringify(entries.slice(0, KEPT))); } catch { /* full, or forbidden */ }
    showVisit();
    return true;
  }

  let done = "";
  async function look() {
    all(".given").forEach(prepare);
    document.getElementById("strength")?.classList.toggle("unused", chosenWay() === "text");
    showVisit();
    const link = document.querySelector("#note #link");
    if (link && link.getAttribute("href") !== done) {
      done = link.getAttribute("href");
      history.replaceState(null, "", done);
      if (!(await remember(done))) done = "";
    }
  }
  const changes = { childList: true, subtree: true, attributes: true, attributeFilter: ["aria-selected"] };
  new MutationObserver(look).observe(document.documentElement, changes);

  // ---- whether the model is ready ------------------------------------------------------------------------------------

  async function ask() {
    let text = "";
    try {
      const answer = await fetch("status", { cache: "no-store" });
      text = answer.ok ? (await answer.json()).status : "";
    } catch {
      text = "The server does not answer. · 服务器没有响应。";
    }
    const place = document.getElementById("status");
    if (place && place.textContent !== text) place.textContent = text;
    setTimeout(ask, text || !place ? 1500 : 15000);
  }
  ask();
})();
