"""Reads an SVG picture from standard input as any XML parser does, and says what is in it, as JSON.

Refuses what does not stand alone: scripts, handlers, styles or links that fetch something.
"""

import json
import sys
import xml.etree.ElementTree as tree

SVG = "{http://www.w3.org/2000/svg}"


def main():
    text = sys.stdin.buffer.read()
    root = tree.fromstring(text)
    assert root.tag == SVG + "svg", root.tag
    wide, tall = int(root.get("width")), int(root.get("height"))
    assert root.get("viewBox") == f"0 0 {wide} {tall}"
    texts, titles = [], []
    for element in root.iter():
        name = element.tag.removeprefix(SVG)
        assert name in {"svg", "title", "desc", "style", "g", "rect", "path", "text"}, name
        for key, value in element.attrib.items():
            assert not key.startswith("on") and "href" not in key and "url(" not in value, (key, value)
        if name == "style":
            assert "@import" not in element.text and "url(" not in element.text
        if name == "title":
            titles.append(element.text)
        if name == "text":
            x, y = int(element.get("x")), int(element.get("y"))
            assert 0 <= x <= wide and 0 <= y <= tall, (x, y, element.text)
            texts.append(element.text or "")
    print(json.dumps({"wide": wide, "tall": tall, "texts": texts, "titles": titles}))


main()
