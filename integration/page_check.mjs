// Looks at the page in headless Chromium: axe's rules, widths, keyboard, network, pictures.
// node page_check.mjs NODE_FOLDER CHROMIUM URL OUT NAME -> one JSON object on standard output.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const [folder, chromium, url, out, name] = process.argv.slice(2);
const require = createRequire(join(resolve(folder), "package.json"));
const puppeteer = require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await puppeteer.launch({
  executablePath: chromium, headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"],
});
const found = [];
try {
  for (const width of [1280, 390]) for (const scheme of ["light", "dark"]) found.push(await looked(width, scheme));
} finally {
  await browser.close();
}
console.log(JSON.stringify(found));

async function looked(width, scheme) {
  const page = await browser.newPage();
  // The checker's own script is no part of the page: its policy may not keep it out.
  await page.setBypassCSP(false);
  const said = [], asked = new Set();
  page.on("console", m => { if (m.type() === "error") said.push(m.text()); });
  page.on("pageerror", error => said.push(String(error)));
  page.on("request", r => { if (!r.url().startsWith("data:")) asked.add(new URL(r.url()).origin); });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.setViewport({ width, height: 900, deviceScaleFactor: 1, isMobile: width < 500 });
  await page.goto(url, { waitUntil: "load" });
  await page.waitForFunction(() => document.querySelector("#models")?.childElementCount && document.querySelector("#last")?.childElementCount && document.querySelector("#frontier")?.childElementCount, { timeout: 60000 });
  const axed = await violations(page);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  const inside = await page.evaluate(() => [...document.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.id));
  const keyed = await opened(page);
  const axedOpen = keyed.reached ? await violations(page) : [];
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.screenshot({ path: join(out, `${name}-${width}-${scheme}.png`), fullPage: height < 6000 });
  if (keyed.reached) keyed.closes = await closed(page);
  const nodes = await page.evaluate(() => document.querySelectorAll("img, iframe, object").length);
  await page.close();
  return { width, scheme, violations: [...axed, ...axedOpen], wide, inside, keyed, errors: said, origins: [...asked], nodes };
}

async function violations(page) {
  // In a world of its own, so that the page's policy stays as strict as it is.
  const client = await page.createCDPSession();
  const { frameTree } = await client.send("Page.getFrameTree");
  const { executionContextId } = await client.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id });
  await client.send("Runtime.evaluate", { expression: axe, contextId: executionContextId });
  const { result, exceptionDetails } = await client.send("Runtime.evaluate", {
    expression: "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => `${v.id}: ${v.help} (${v.nodes.map(n => n.target.join(' ')).slice(0, 3).join(', ')})`))",
    contextId: executionContextId, awaitPromise: true, returnByValue: true,
  });
  if (exceptionDetails) throw new Error(exceptionDetails.text);
  return result.value;
}

// By the Tab key alone to the first decision's button, and open it there.
async function opened(page) {
  if (!await page.$("[data-decision]")) return { reached: false, tabs: 0 };
  for (let tabs = 1; tabs <= 60; tabs++) {
    await page.keyboard.press("Tab");
    if (!await page.evaluate(() => !!document.activeElement.dataset.decision)) continue;
    await page.keyboard.press("Enter");
    await page.waitForSelector("tr.why", { timeout: 20000 });
    const state = await page.evaluate(() => ({
      expanded: document.activeElement.getAttribute("aria-expanded"),
      after: document.activeElement.closest("tr").nextElementSibling.className,
      text: document.querySelector("tr.why").textContent.length,
    }));
    return { reached: true, tabs, ...state };
  }
  return { reached: false, tabs: 60 };
}

async function closed(page) {
  await page.keyboard.press("Escape");
  return page.evaluate(() => !document.querySelector("tr.why") && !!document.activeElement.dataset.decision);
}
