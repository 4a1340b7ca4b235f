"""Reads a report back: its tables as text, its charts as arrays."""

import base64
import json
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np


class Tables(HTMLParser):
    """Collects the rows of every table."""

    def __init__(self):
        super().__init__()
        self.tables, self.cell = [], None

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = ""

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self.cell)
            self.cell = None


def own(html):
    """A page without plotly's own code and without what charts hold."""
    return "".join(re.split(r"(?s)<script[^>]*>.*?</script>", html))


def tables(html):
    """Every table as a list of rows of texts; the first row is the heads."""
    reader = Tables()
    reader.feed(own(html))
    return reader.tables


def section(html, anchor):
    """The HTML of one section, its charts included; None where there is no such section."""
    found = re.search(rf'(?s)<section id="{anchor}">(.*?)</section>', html)
    return found and found[1]


def charts(html):
    """Every chart's figure, with plotly's packed arrays unpacked."""
    texts = re.findall(r'(?s)<script type="application/json">(.*?)</script>', html)
    return [unpacked(json.loads(text)) for text in texts]


def unpacked(value):
    """A figure with arrays in place of base64."""
    if isinstance(value, dict) and "bdata" in value:
        array = np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"])
        return array.reshape([int(size) for size in value["shape"].split(",")]) if "shape" in value else array
    if isinstance(value, dict):
        return {name: unpacked(item) for name, item in value.items()}
    return [unpacked(item) for item in value] if isinstance(value, list) else value


def keys(html):
    """Entries of all legends: name, and whether it is on."""
    found = re.findall(r'(?s)class="key" aria-pressed="(\w+)">.*?<span>(.*?)</span>', own(html))
    return [(unescape(name), pressed == "true") for pressed, name in found]


def lines(chart, kind="line"):
    """Traces of one kind by name; of bands, which have none, in a list."""
    found = [trace for trace in chart["data"] if trace.get("meta", {}).get("kind") == kind]
    return found if kind == "band" else {unescape(trace["name"]): trace for trace in found}
