/* (key, window) to slot: the memory behind a `GroupTable`, and the loops over many rows.
 *
 * Places are an open-addressed table of 8 bytes each: the upper 32 bits of the spread hash, and the slot + 1
 * (0: free). The place where a search begins are the tag's upper bits, so a table of twice the places is
 * filled from the old one in order, without a look at any key. By slot:
 *
 * | array | what |
 * |---|---|
 * | words | the key, when it is one column of 8 bytes; `nulls` then tells the NULL key (absent: none) |
 * | keys | all other keys: their words up to 16 bytes, where they are in `arena` beyond |
 * | windows | absent when all windows are 0 |
 * | changed | 1 when the group has changed since someone took the changed ones; absent until someone wants to */
#ifndef VELOSTREAM_GROUP_STORE_H
#define VELOSTREAM_GROUP_STORE_H

#include "key_hash.h"
#include "large_array.h"

#define GROUP_FIRST_BITS 6
#define GROUP_FIRST_SLOTS 64
#define GROUP_FIRST_ARENA 1024
#define GROUP_BATCH 256
/* From here on what a row touches is not in the nearest caches: it is asked for a batch of rows ahead. */
#define GROUP_FAR_COUNT 16384
/* Up to so many groups, keys that were just found are remembered with their slots. */
#define GROUP_MEMO_COUNT 256
#define GROUP_MEMO_BITS 10
#define GROUP_NO_MEMORY (-1)
#define GROUP_TOO_MANY (-2)

typedef struct { uint32_t tag; uint32_t taken; } GroupPlace;

/* length <= 16 (-1: NULL): what `key_words` gives. Else `first` is the key's beginning, `last` its place. */
typedef struct { uint64_t first, last; int32_t length; } GroupKey;

/* A key of at most 16 bytes in a window, and its slot + 1 (0: nothing). */
typedef struct { uint64_t first, last; int64_t window; int32_t length; uint32_t taken; } GroupMemo;

typedef struct {
    GroupPlace *places;
    GroupMemo *memo;
    int bits;
    int by_word;
    int keyless; /* no key columns: the one key is empty, its hash 0 */
    int64_t count, capacity;
    uint64_t *words;
    uint8_t *nulls;
    GroupKey *keys;
    int64_t *windows;
    uint8_t *changed;
    uint8_t *arena;
    int64_t arena_used, arena_capacity;
} GroupStore;

/* A key that is searched: `at` is read only where it is longer than 16 bytes. */
typedef struct { uint64_t first, last; const uint8_t *at; int32_t length; } SoughtKey;

/* Rows of keys; see keys.pxd. */
typedef struct {
    const uint64_t *hash;
    const uint8_t *data;
    const int32_t *offsets;
    const uint8_t *validity;
    int64_t bit;
    int64_t stride;
} KeyRows;

static inline int key_rows_null(const KeyRows *rows, int64_t i)
{
    int64_t bit = rows->bit + i;
    return rows->validity != NULL && !((rows->validity[bit >> 3] >> (bit & 7)) & 1);
}

static inline void key_rows_hash(const KeyRows *rows, int64_t n, uint64_t *out)
{
    int64_t i;
    for (i = 0; i < n; i++) {
        int64_t at = rows->offsets != NULL ? rows->offsets[i] : i * rows->stride;
        int64_t length = rows->offsets != NULL ? rows->offsets[i + 1] - at : rows->stride;
        out[i] = key_rows_null(rows, i) ? key_hash_words(0, 0, -1) : key_hash(rows->data + at, (int32_t)length);
    }
}

static inline int group_init(GroupStore *store, int by_word, int keyless)
{
    memset(store, 0, sizeof *store);
    store->by_word = by_word;
    store->keyless = keyless;
    store->bits = GROUP_FIRST_BITS;
    store->places = (GroupPlace *)calloc((size_t)1 << GROUP_FIRST_BITS, sizeof(GroupPlace));
    store->memo = (GroupMemo *)calloc((size_t)1 << GROUP_MEMO_BITS, sizeof(GroupMemo));
    return store->places == NULL || store->memo == NULL ? GROUP_NO_MEMORY : 0;
}

static inline void group_free(GroupStore *store)
{
    large_array_free(store->places, (int64_t)sizeof(GroupPlace) << store->bits);
    free(store->memo);
    large_array_free(store->words, store->capacity * 8);
    large_array_free(store->nulls, store->capacity);
    large_array_free(store->keys, store->capacity * (int64_t)sizeof(GroupKey));
    large_array_free(store->windows, store->capacity * 8);
    large_array_free(store->changed, store->capacity);
    large_array_free(store->arena, store->arena_capacity);
}

static inline int64_t group_bytes(const GroupStore *store)
{
    int64_t by_slot = store->by_word ? 8 : (int64_t)sizeof(GroupKey);
    by_slot += store->windows != NULL ? 8 : 0;
    by_slot += store->nulls != NULL ? 1 : 0;
    by_slot += store->changed != NULL ? 1 : 0;
    return store->capacity * by_slot + store->arena_capacity + ((int64_t)sizeof(GroupPlace) << store->bits)
        + ((int64_t)sizeof(GroupMemo) << GROUP_MEMO_BITS);
}

static inline int64_t group_window(const GroupStore *store, int64_t slot)
{
    return store->windows != NULL ? store->windows[slot] : 0;
}

/* Lead to all groups of `old` from twice the places. */
static inline int group_double(GroupStore *store)
{
    int64_t old = (int64_t)1 << store->bits, mask = 2 * old - 1, from, to;
    int shift = 32 - store->bits - 1;
    GroupPlace *places;

    if (store->bits == 31)
        return GROUP_TOO_MANY;
    places = (GroupPlace *)large_array_grow(NULL, 0, 2 * old * (int64_t)sizeof(GroupPlace));
    if (places == NULL)
        return GROUP_NO_MEMORY;
    for (from = 0; from < old; from++) {
        GroupPlace place = store->places[from];
        if (place.taken == 0)
            continue;
        to = place.tag >> shift;
        while (places[to].taken != 0)
            to = (to + 1) & mask;
        places[to] = place;
    }
    large_array_free(store->places, old * (int64_t)sizeof(GroupPlace));
    store->places = places;
    store->bits++;
    return 0;
}

/* Resize an array by slot, when there is one. 0 or an error. */
static inline int group_resize_array(void **array, int64_t size, int64_t before, int64_t after)
{
    void *resized;

    if (*array == NULL)
        return 0;
    resized = large_array_grow(*array, before * size, after * size);
    if (resized == NULL)
        return GROUP_NO_MEMORY;
    *array = resized;
    return 0;
}

/* Make room for `after` slots, fewer or more than there is now. 0 or an error, after which there are no groups;
 * their memory is lost, since its arrays no longer have one size. */
static inline int group_resize(GroupStore *store, int64_t after)
{
    int64_t before = store->capacity;

    if (group_resize_array((void **)&store->words, 8, before, after) < 0
        || group_resize_array((void **)&store->nulls, 1, before, after) < 0
        || group_resize_array((void **)&store->keys, (int64_t)sizeof(GroupKey), before, after) < 0
        || group_resize_array((void **)&store->windows, 8, before, after) < 0
        || group_resize_array((void **)&store->changed, 1, before, after) < 0) {
        store->words = NULL;
        store->nulls = NULL;
        store->keys = NULL;
        store->windows = NULL;
        store->changed = NULL;
        store->count = store->capacity = 0;
        memset(store->places, 0, sizeof(GroupPlace) << store->bits);
        memset(store->memo, 0, sizeof(GroupMemo) << GROUP_MEMO_BITS);
        return GROUP_NO_MEMORY;
    }
    store->capacity = after;
    return 0;
}

/* Make room for one more slot. */
static inline int group_grow(GroupStore *store)
{
    if (store->capacity == 0) {
        int64_t size = store->by_word ? 8 : (int64_t)sizeof(GroupKey);
        void *first = large_array_grow(NULL, 0, GROUP_FIRST_SLOTS * size);
        if (first == NULL)
            return GROUP_NO_MEMORY;
        if (store->by_word)
            store->words = (uint64_t *)first;
        else
            store->keys = (GroupKey *)first;
        store->capacity = GROUP_FIRST_SLOTS;
        return 0;
    }
    return group_resize(store, large_array_capacity(store->capacity, store->count + 1, GROUP_FIRST_SLOTS));
}

/* The arena's place of a copy of the key, or an error. */
static inline int64_t group_keep_bytes(GroupStore *store, const uint8_t *at, int32_t length)
{
    int64_t place = store->arena_used;
    int64_t capacity = large_array_capacity(store->arena_capacity, place + length, GROUP_FIRST_ARENA);

    if (capacity != store->arena_capacity) {
        void *grown = large_array_grow(store->arena, store->arena_capacity, capacity);
        if (grown == NULL)
            return GROUP_NO_MEMORY;
        store->arena = (uint8_t *)grown;
        store->arena_capacity = capacity;
    }
    memcpy(store->arena + place, at, (size_t)length);
    store->arena_used += length;
    return place;
}

/* How full places may be, in quarters: where they fit a near cache, a search that ends at its first place is
 * worth more (a second one is a mispredicted branch) than the room. */
static inline int64_t group_quarters(int bits)
{
    return bits <= 14 ? 1 : 3;
}

/* A new group, led to from a free place. Gives its slot, or an error. */
static __attribute__((noinline)) int64_t group_append(GroupStore *store, const SoughtKey *key, int64_t window, int64_t place,
                                   uint32_t tag)
{
    int64_t slot = store->count, kept = 0;
    int error;

    if (slot >= INT32_MAX)
        return GROUP_TOO_MANY;
    if (slot == store->capacity && (error = group_grow(store)) < 0)
        return error;
    if (window != 0 && store->windows == NULL) {
        store->windows = (int64_t *)large_array_grow(NULL, 0, store->capacity * 8);
        if (store->windows == NULL)
            return GROUP_NO_MEMORY;
    }
    if (store->by_word) {
        if (key->length < 0 && store->nulls == NULL) {
            store->nulls = (uint8_t *)large_array_grow(NULL, 0, store->capacity);
            if (store->nulls == NULL)
                return GROUP_NO_MEMORY;
        }
        if (store->nulls != NULL)
            store->nulls[slot] = key->length < 0;
        store->words[slot] = key->first;
    } else {
        if (key->length > 16 && (kept = group_keep_bytes(store, key->at, key->length)) < 0)
            return kept;
        store->keys[slot].first = key->first;
        store->keys[slot].last = key->length > 16 ? (uint64_t)kept : key->last;
        store->keys[slot].length = key->length;
    }
    if (store->windows != NULL)
        store->windows[slot] = window;
    store->places[place].tag = tag;
    store->places[place].taken = (uint32_t)slot + 1;
    store->count++;
    if (4 * store->count > group_quarters(store->bits) << store->bits && (error = group_double(store)) < 0)
        return error;
    return slot;
}

static inline __attribute__((always_inline)) int group_is(const GroupStore *store, int64_t slot,
                                                          const SoughtKey *key, int64_t window, int by_word)
{
    if (group_window(store, slot) != window)
        return 0;
    if (by_word)
        return store->words[slot] == key->first
            && (store->nulls != NULL ? store->nulls[slot] : 0) == (key->length < 0);
    if (store->keys[slot].first != key->first || store->keys[slot].length != key->length)
        return 0;
    if (key->length <= 16)
        return store->keys[slot].last == key->last;
    return memcmp(store->arena + store->keys[slot].last, key->at, (size_t)key->length) == 0;
}

/* The slot of a key in a window, a new one when there is none; or an error. */
static inline __attribute__((always_inline)) int64_t group_find(GroupStore *store, uint64_t spread,
                                                                const SoughtKey *key, int64_t window, int by_word)
{
    uint32_t tag = (uint32_t)(spread >> 32);
    int64_t mask = ((int64_t)1 << store->bits) - 1, place = tag >> (32 - store->bits);

    for (;;) {
        GroupPlace found = store->places[place];
        if (found.taken == 0)
            return group_append(store, key, window, place, tag);
        if (found.tag == tag && group_is(store, (int64_t)found.taken - 1, key, window, by_word))
            return (int64_t)found.taken - 1;
        place = (place + 1) & mask;
    }
}

static inline __attribute__((always_inline)) void key_rows_sought(const KeyRows *keys, int64_t i, SoughtKey *key,
                                                                  int by_word)
{
    if (by_word) {
        key->length = key_rows_null(keys, i) ? -1 : 8;
        key->first = key->length < 0 ? 0 : key_read64(keys->data + 8 * i);
        key->last = key->first;
        return;
    }
    if (keys->offsets != NULL) {
        key->at = keys->data + keys->offsets[i];
        key->length = keys->offsets[i + 1] - keys->offsets[i];
    } else {
        key->at = keys->data + i * keys->stride;
        key->length = (int32_t)keys->stride;
    }
    if (key_rows_null(keys, i))
        key->length = -1;
    if (key->length > 16) {
        key->first = key_read64(key->at);
        key->last = 0;
    } else {
        key_words(key->at, key->length, &key->first, &key->last);
    }
}

static inline uint64_t sought_hash(const GroupStore *store, const SoughtKey *key)
{
    if (store->keyless)
        return 0;
    return key->length > 16 ? key_hash(key->at, key->length) : key_hash_words(key->first, key->last, key->length);
}

/* The slots of at most GROUP_BATCH rows: `rows[j]`, or `first` + j when `rows` is NULL. 0 or an error. */
static inline __attribute__((always_inline)) int group_assign_batch(GroupStore *store, const KeyRows *keys,
                                                                    const int32_t *rows, int64_t first,
                                                                    const int64_t *windows, int64_t n,
                                                                    int32_t *slots, int by_word)
{
    uint64_t spreads[GROUP_BATCH];
    SoughtKey sought[GROUP_BATCH];
    int shift = 32 - store->bits, far = store->count >= GROUP_FAR_COUNT;
    int64_t j, slot;

    for (j = 0; j < n; j++) {
        int64_t i = rows != NULL ? rows[j] : first + j;
        SoughtKey key;
        key_rows_sought(keys, i, &key, by_word);
        spreads[j] = key_spread(keys->hash != NULL ? keys->hash[i] : sought_hash(store, &key),
                                windows != NULL ? windows[j] : 0);
        sought[j] = key;
    }
    if (far) {
        for (j = 0; j < n; j++)
            __builtin_prefetch(&store->places[(spreads[j] >> 32) >> shift]);
        for (j = 0; j < n; j++) {
            GroupPlace place = store->places[(spreads[j] >> 32) >> shift];
            if (place.taken != 0 && place.tag == (uint32_t)(spreads[j] >> 32)) {
                __builtin_prefetch(by_word ? (void *)&store->words[place.taken - 1]
                                           : (void *)&store->keys[place.taken - 1]);
                if (store->windows != NULL)
                    __builtin_prefetch(&store->windows[place.taken - 1]);
            }
        }
    }
    for (j = 0; j < n; j++) {
        int64_t window = windows != NULL ? windows[j] : 0;
        slot = group_find(store, spreads[j], &sought[j], window, by_word);
        if (slot < 0)
            return (int)slot;
        slots[j] = (int32_t)slot;
    }
    return 0;
}

/* As `group_assign_batch`, for few groups: a row whose key was just seen needs neither hash nor search, which
 * is 1.4x the speed at 100 keys. */
static inline __attribute__((always_inline)) int group_recall_batch(GroupStore *store, const KeyRows *keys,
                                                                    const int32_t *rows, int64_t first,
                                                                    const int64_t *windows, int64_t n,
                                                                    int32_t *slots, int by_word)
{
    int64_t j;

    for (j = 0; j < n; j++) {
        int64_t i = rows != NULL ? rows[j] : first + j, window = windows != NULL ? windows[j] : 0, slot;
        SoughtKey key;
        GroupMemo *memo;
        uint64_t mixed;
        key_rows_sought(keys, i, &key, by_word);
        mixed = (key.first ^ (key.last << 32 | key.last >> 32) ^ (uint64_t)window) * KEY_MIX_A;
        memo = &store->memo[mixed >> (64 - GROUP_MEMO_BITS)];
        if (memo->first == key.first && memo->last == key.last && memo->window == window
            && memo->length == key.length && memo->taken != 0) {
            slots[j] = (int32_t)(memo->taken - 1);
            continue;
        }
        slot = group_find(store, key_spread(keys->hash != NULL ? keys->hash[i] : sought_hash(store, &key), window),
                          &key, window, by_word);
        if (slot < 0)
            return (int)slot;
        slots[j] = (int32_t)slot;
        if (key.length <= 16) {
            memo->first = key.first;
            memo->last = key.last;
            memo->window = window;
            memo->length = key.length;
            memo->taken = (uint32_t)slot + 1;
        }
    }
    return 0;
}

static inline void group_mark(GroupStore *store, const int32_t *slots, int64_t n)
{
    uint8_t *changed = store->changed;
    int64_t j;

    if (changed == NULL)
        return;
    for (j = 0; j < n; j++)
        changed[slots[j]] = 1;
}

/* Whoever finds a slot here is about to change its group: it is marked. */
static inline int group_assign(GroupStore *store, const KeyRows *keys, const int32_t *rows, int64_t first,
                               const int64_t *windows, int64_t n, int32_t *slots)
{
    int64_t at, m;
    int error;

    for (at = 0; at < n; at += GROUP_BATCH) {
        const int32_t *batch_rows = rows != NULL ? rows + at : NULL;
        const int64_t *batch_windows = windows != NULL ? windows + at : NULL;
        m = n - at < GROUP_BATCH ? n - at : GROUP_BATCH;
        if (store->count <= GROUP_MEMO_COUNT)
            error = store->by_word
                ? group_recall_batch(store, keys, batch_rows, first + at, batch_windows, m, slots + at, 1)
                : group_recall_batch(store, keys, batch_rows, first + at, batch_windows, m, slots + at, 0);
        else
            error = store->by_word
                ? group_assign_batch(store, keys, batch_rows, first + at, batch_windows, m, slots + at, 1)
                : group_assign_batch(store, keys, batch_rows, first + at, batch_windows, m, slots + at, 0);
        if (error < 0)
            return error;
        group_mark(store, slots + at, m);
    }
    return 0;
}

static inline void group_sought(const GroupStore *store, int64_t slot, SoughtKey *key)
{
    key->at = NULL;
    if (store->by_word) {
        key->first = key->last = store->words[slot];
        key->length = store->nulls != NULL && store->nulls[slot] ? -1 : 8;
        return;
    }
    key->first = store->keys[slot].first;
    key->last = store->keys[slot].last;
    key->length = store->keys[slot].length;
    if (key->length > 16) {
        key->at = store->arena + key->last;
        key->last = 0;
    }
}

static inline uint64_t group_hash(const GroupStore *store, int64_t slot)
{
    SoughtKey key;
    group_sought(store, slot, &key);
    return sought_hash(store, &key);
}

/* The slots here of groups of another table with the same layout; they are marked. 0 or an error. */
static inline int group_adopt(GroupStore *store, const GroupStore *other, const int32_t *others, int64_t n,
                              int32_t *slots)
{
    int64_t j, slot;
    SoughtKey key;

    for (j = 0; j < n; j++) {
        int64_t window = group_window(other, others[j]);
        group_sought(other, others[j], &key);
        slot = group_find(store, key_spread(sought_hash(store, &key), window), &key, window, store->by_word);
        if (slot < 0)
            return (int)slot;
        slots[j] = (int32_t)slot;
    }
    group_mark(store, slots, n);
    return 0;
}

/* The canonical bytes of a slot's key (NULL: the NULL key); those of a short one are put into `buffer` (16). */
static inline const uint8_t *group_key_bytes(const GroupStore *store, int64_t slot, uint8_t *buffer)
{
    SoughtKey key;

    group_sought(store, slot, &key);
    if (key.length < 0)
        return NULL;
    if (key.length > 16)
        return key.at;
    key_bytes(key.first, key.last, key.length, buffer);
    return buffer;
}

/* Keep only the slots `keep` (ascending): slot keep[j] becomes j. Memory used to less than a quarter is given
 * back. 0 or an error, after which the table is of no use. */
static inline int group_compact(GroupStore *store, const int32_t *keep, int64_t n)
{
    int64_t used = 0, j, mask, place;
    int bits = GROUP_FIRST_BITS;
    GroupPlace *places;

    while (group_quarters(bits) << bits < 4 * n)
        bits++;
    places = (GroupPlace *)large_array_grow(NULL, 0, (int64_t)sizeof(GroupPlace) << bits);
    if (places == NULL)
        return GROUP_NO_MEMORY;
    large_array_free(store->places, (int64_t)sizeof(GroupPlace) << store->bits);
    store->places = places;
    store->bits = bits;
    memset(store->memo, 0, sizeof(GroupMemo) << GROUP_MEMO_BITS);
    for (j = 0; j < n; j++) {
        int64_t slot = keep[j];
        if (store->by_word) {
            store->words[j] = store->words[slot];
            if (store->nulls != NULL)
                store->nulls[j] = store->nulls[slot];
        } else {
            GroupKey key = store->keys[slot];
            if (key.length > 16) {
                memmove(store->arena + used, store->arena + key.last, (size_t)key.length);
                key.last = (uint64_t)used;
                used += key.length;
            }
            store->keys[j] = key;
        }
        if (store->windows != NULL)
            store->windows[j] = store->windows[slot];
        if (store->changed != NULL)
            store->changed[j] = store->changed[slot];
    }
    store->count = n;
    store->arena_used = used;
    mask = ((int64_t)1 << bits) - 1;
    for (j = 0; j < n; j++) {
        uint32_t tag = (uint32_t)(key_spread(group_hash(store, j), group_window(store, j)) >> 32);
        place = tag >> (32 - bits);
        while (places[place].taken != 0)
            place = (place + 1) & mask;
        places[place].tag = tag;
        places[place].taken = (uint32_t)j + 1;
    }
    if (store->capacity > GROUP_FIRST_SLOTS && store->capacity > 4 * n
        && group_resize(store, 2 * n > GROUP_FIRST_SLOTS ? 2 * n : GROUP_FIRST_SLOTS) < 0)
        return GROUP_NO_MEMORY;
    if (store->arena_capacity > GROUP_FIRST_ARENA && store->arena_capacity > 4 * used) {
        int64_t after = 2 * used > GROUP_FIRST_ARENA ? 2 * used : GROUP_FIRST_ARENA;
        if (group_resize_array((void **)&store->arena, 1, store->arena_capacity, after) < 0)
            return GROUP_NO_MEMORY;
        store->arena_capacity = after;
    }
    return 0;
}

/* Note from now on which groups change; all that there are count as changed, or none does. 0 or an error. */
static inline int group_track(GroupStore *store, int changed)
{
    int error;

    if (store->capacity == 0 && (error = group_grow(store)) < 0)
        return error;
    if (store->changed == NULL)
        store->changed = (uint8_t *)large_array_grow(NULL, 0, store->capacity);
    if (store->changed == NULL)
        return GROUP_NO_MEMORY;
    memset(store->changed, changed, (size_t)store->count);
    return 0;
}

/* How many groups have changed. */
static inline int64_t group_changed(const GroupStore *store)
{
    int64_t slot, changed = 0;

    for (slot = 0; slot < store->count; slot++)
        changed += store->changed[slot];
    return changed;
}

/* The slots (ascending) of all that have changed, and of those from `first` to `stop`; none counts as changed
 * afterwards. `slots` has room for one more. Gives how many there are. */
static inline int64_t group_take_changed(GroupStore *store, int64_t first, int64_t stop, int32_t *slots)
{
    int64_t at, slot, taken = 0;

    memset(store->changed + first, 1, (size_t)(stop - first));
    for (at = 0; at < store->count; at += 8) {
        int64_t end = at + 8 < store->count ? at + 8 : store->count;
        if (end == at + 8 && key_read64(store->changed + at) == 0)
            continue;
        for (slot = at; slot < end; slot++) {
            slots[taken] = (int32_t)slot;
            taken += store->changed[slot];
            store->changed[slot] = 0;
        }
    }
    return taken;
}

#endif
