"""The lake's page: what the lake holds, how whole and how fresh it is, and why a number is what it is.

Read only, and on loopback only. `shelf` reads tables, `views` make pages out of blocks, `render` turns them into HTML,
`app` serves them, `export` writes them as files. Figures are plain data, drawn by the plotly.js that comes with plotly.
"""
