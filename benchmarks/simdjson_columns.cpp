// The five columns of the trades by simdjson's on-demand API, for benchmarks/json_decode.py.
//
//     simdjson_columns FILE time|facts
//
// `time` reads the file block by block and fills the columns of each block: text as bytes and 32-bit offsets,
// numbers as vectors. It prints the seconds from the first block read to the last column filled. `facts` prints
// what the decoded columns add up to. The on-demand API in the way its documentation calls fastest: one parser,
// iterate_many over padded input, keys asked for in the order of the document (find_field), strings appended
// from the parser's buffer, the vectors kept from block to block.
#include <simdjson.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

using namespace simdjson;

static const size_t BLOCK = 4 << 20;
// What the parser indexes at a time: the fastest of 64 KiB to 4 MiB.
static const size_t BATCH = 256 << 10;

// As long as all text of a block could be, so that nothing is checked or moved when a value comes.
struct Text {
    std::vector<char> bytes = std::vector<char>(BLOCK);
    std::vector<int32_t> offsets = {0};

    size_t size() const { return static_cast<size_t>(offsets.back()); }
    void clear() { offsets.assign(1, 0); }
    void append(std::string_view value)
    {
        memcpy(bytes.data() + size(), value.data(), value.size());
        offsets.push_back(static_cast<int32_t>(size() + value.size()));
    }
};

struct Columns {
    Text symbol, trader;
    std::vector<double> price;
    std::vector<int64_t> quantity, ts;

    void clear()
    {
        symbol.clear();
        trader.clear();
        price.clear();
        quantity.clear();
        ts.clear();
    }
};

struct Facts {
    long long rows = 0, symbol_bytes = 0, trader_bytes = 0, tenthousandths = 0, quantity = 0, ts = 0;

    void add(const Columns &columns)
    {
        rows += static_cast<long long>(columns.ts.size());
        symbol_bytes += static_cast<long long>(columns.symbol.size());
        trader_bytes += static_cast<long long>(columns.trader.size());
        for (double price : columns.price)
            tenthousandths += llround(price * 10000);
        for (int64_t quantity_ : columns.quantity)
            quantity += quantity_;
        for (int64_t ts_ : columns.ts)
            ts += ts_ / 1000000;  // of milliseconds the sum would overflow
    }
};

static void decode(ondemand::parser &parser, const char *block, size_t length, Columns &columns)
{
    columns.clear();
    ondemand::document_stream stream;
    if (parser.iterate_many(block, length, BATCH).get(stream))
        throw std::runtime_error("no stream");
    for (auto document : stream) {
        ondemand::object record = document.get_object();
        columns.symbol.append(record.find_field("symbol").get_string());
        columns.price.push_back(record.find_field("price").get_double());
        columns.quantity.push_back(record.find_field("quantity").get_int64());
        columns.ts.push_back(record.find_field("ts").get_int64() * 1000);
        columns.trader.append(record.find_field("trader").get_string());
    }
}

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    FILE *file = fopen(arguments[1], "rb");
    if (!file)
        return 1;
    std::vector<char> block(BLOCK + SIMDJSON_PADDING);
    ondemand::parser parser;
    Columns columns;
    Facts facts;
    bool wanted = !strcmp(arguments[2], "facts");
    size_t kept = 0;
    auto begun = std::chrono::steady_clock::now();
    for (;;) {
        size_t filled = kept + fread(block.data() + kept, 1, BLOCK - kept, file);
        size_t length = filled;
        while (length > 0 && block[length - 1] != '\n')
            length--;
        if (length == 0)
            break;
        decode(parser, block.data(), length, columns);
        if (wanted)
            facts.add(columns);
        kept = filled - length;
        memmove(block.data(), block.data() + length, kept);
    }
    std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begun;
    if (wanted)
        printf("{\"rows\": %lld, \"symbol_bytes\": %lld, \"trader_bytes\": %lld, \"tenthousandths\": %lld, "
               "\"quantity\": %lld, \"ts\": %lld}\n",
               facts.rows, facts.symbol_bytes, facts.trader_bytes, facts.tenthousandths, facts.quantity, facts.ts);
    else
        printf("{\"seconds\": %f, \"kernel\": \"%s\"}\n", taken.count(),
               get_active_implementation()->name().c_str());
    return 0;
}
