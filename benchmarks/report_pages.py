"""How large reports are, how long they take to write, and how fast their pages open.

    python benchmarks/report_pages.py RUN...

For each run: processor seconds to write it, files and megabytes, and for its overview, its largest layer and one unit
the milliseconds to the first frame after loading in headless Chromium (median of five) with the number of requests.
"""

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from netdissect.report import report
from netdissect.result import load_result

FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
FRAME = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"


def measure(browser: Browser, run: Path, folder: Path) -> None:
    result = load_result(run)
    start = time.process_time()
    index = report(result, folder)
    seconds = time.process_time() - start
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    units = [layer.info.units for layer in result.layers.values()]
    print(f"{run.name}: units {units}, {seconds:.1f} s, {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB")
    layer = units.index(max(units))
    for name in ("index.html", f"r0/l{layer}/index.html", f"r0/l{layer}/u0.html"):
        times, requests = [], 0
        for _ in range(5):
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            seen: list[str] = []
            page.on("request", lambda each, seen=seen: seen.append(each.url))
            page.goto((index.parent / name).as_uri(), wait_until="load")
            times.append(page.evaluate(FRAME))
            requests = len(seen)
            page.close()
        size = (index.parent / name).stat().st_size
        print(f"  {name}: {size / 1e3:.0f} kB, {statistics.median(times):.0f} ms, {requests} requests")


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        for number, run in enumerate(sys.argv[1:]):
            measure(browser, Path(run), Path(folder) / str(number))
        browser.close()


if __name__ == "__main__":
    main()
