// tardis-dev's own `replayNormalized` of recorded frames, offline: its cache of raw minutes is filled with them first.
// `node tardis_replay.mjs FOLDER`, where FOLDER has tardis-dev in its node_modules; told what to play on standard input.
//
// What it does with each frame: parses it and its time, makes a trade or a book_change with numbers as doubles.
// It joins the first changes with the snapshot, and checks no number after that. replayNormalized ends there; where
// books are to be kept as ours are, its OrderBook (a red-black tree) takes the changes and looks for crossed levels.
// Best prices are parsed and left. The cached minutes are gzip that stores without packing, so that unpacking costs
// next to nothing.

import fs from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { gzipSync } from 'node:zlib'

const require = createRequire(path.resolve(process.argv[2], 'package.json'))
const { init, normalizeBookChanges, normalizeTrades, OrderBook, replayNormalized } = require('tardis-dev')
const { formatDateToPath, getFilters, optimizeFilters, sha256 } = require('tardis-dev/dist/handy.js')

const EXCHANGES = { binance: 'binance', binanceusdm: 'binance-futures', binancecoinm: 'binance-delivery' }
const NORMALIZERS = [normalizeTrades, normalizeBookChanges]
const MINUTE_MS = 60_000

const told = JSON.parse(fs.readFileSync(0, 'utf8'))
const cacheDir = fs.mkdtempSync(path.join(os.tmpdir(), 'frames-'))
try {
  init({ cacheDir })
  const spans = told.samples.map(cached)
  const cpu_s = []
  let run
  while (cpu_s.length < told.runs && sum(cpu_s) < told.no_more_after_s) {
    run = await inTurn(spans, play)
    cpu_s.push(sum(run.map((one) => one.cpu_s)))
  }
  const best = told.keeps_books ? run.map((one) => one.best) : null
  console.log(JSON.stringify({ cpu_s, trades: run.map((one) => one.trades), best }))
} finally {
  fs.rmSync(cacheDir, { recursive: true })
}

// The frames of a sample as files of tardis-dev's cache, one a minute; answers what replayNormalized is to be asked for.
function cached({ file: recorded, stream, symbol }) {
  const exchange = EXCHANGES[stream]
  const filters = getFilters(NORMALIZERS.map((one) => one(exchange, new Date())), [symbol])
  const folder = path.join(cacheDir, 'feeds', exchange, sha256(optimizeFilters(filters)))
  const minutes = new Map()
  for (const line of fs.readFileSync(recorded, 'utf8').trimEnd().split('\n')) {
    const space = line.indexOf(' ')
    const at_ns = BigInt(line.slice(0, space))
    const at_ms = Number(at_ns / 1_000_000n)
    const at = `${new Date(at_ms).toISOString().slice(0, -1)}${String((at_ns % 1_000_000n) / 100n).padStart(4, '0')}Z`
    const minute = at_ms - (at_ms % MINUTE_MS)
    if (!minutes.has(minute)) minutes.set(minute, [])
    minutes.get(minute).push(`${at} ${wrapped(line.slice(space + 1), symbol)}\n`)
  }
  for (const [minute, lines] of minutes) {
    const file = path.join(folder, `${formatDateToPath(new Date(minute))}.json.gz`)
    fs.mkdirSync(path.dirname(file), { recursive: true })
    fs.writeFileSync(file, gzipSync(lines.join(''), { level: 0 }))
  }
  const from = new Date(Math.min(...minutes.keys())).toISOString()
  const to = new Date(Math.max(...minutes.keys()) + MINUTE_MS).toISOString()
  return { exchange, symbols: [symbol], from, to }
}

// A REST snapshot as tardis-dev records it.
function wrapped(text, symbol) {
  if (!text.startsWith('{"lastUpdateId"')) return text
  return `{"stream":"${symbol.toLowerCase()}@depthSnapshot","data":${text}}`
}

// CPU seconds of the process, from the first message on, so that starting the thread that looks for files is left out.
async function play(span) {
  const book = told.keeps_books ? new OrderBook({ removeCrossedLevels: true }) : undefined
  let trades = 0
  let began
  for await (const message of replayNormalized(span, ...NORMALIZERS)) {
    began ??= process.cpuUsage()
    if (message.type === 'trade') trades++
    else book?.update(message)
  }
  const { user, system } = process.cpuUsage(began)
  return { cpu_s: (user + system) / 1e6, trades, best: [book?.bestBid().price, book?.bestAsk().price] }
}

async function inTurn(items, work) {
  const done = []
  for (const item of items) done.push(await work(item))
  return done
}

function sum(numbers) {
  return numbers.reduce((so_far, one) => so_far + one, 0)
}
