/*
 * The code cache: where translated blocks live, how they are found, chained, dropped.
 *
 * Code is memory mapped twice, writable here and executable there. It is divided into segments that are filled
 * in turn; when the last is full the first is emptied and filled again, so eviction is in order of age and takes one
 * segment's time. What C code knows of a block (struct block) lies in memory of its own, divided the same way, because
 * writing next to running code costs the CPU dearly. Room of blocks that died by a write to their guest code is used
 * again by the next block of that size: a guest that rewrites one function all the time must not drive out the rest.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/bt/internal.h"

#define SEGMENTS 32u
#define COPY_AT KIB(8)  /* behind the stubs */
#define STUB_ROOM KIB(16)
#define CODE_ALIGN 64u
#define META_SHARE 2u      /* bytes of code for each byte of struct block and its like */
#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#define FREE_CLASSES 64u   /* of CODE_ALIGN bytes of code, and of META_ALIGN bytes of the rest */
#define META_ALIGN 32u

struct segment_use {
	uint32_t code, meta; /* bytes used */
};

struct cache {
	uint8_t *write, *exec, *meta;
	uint64_t *slots;   /* behind exec: the tables' addresses, then SLOTS for each */
	uint32_t next_slot[SLOT_TABLES];
	uint64_t bytes, meta_bytes;
	uint32_t segment_bytes, segment_meta; /* of one segment */
	uint32_t current;
	struct segment_use use[SEGMENTS];
	struct block **by_id;
	uint32_t max_blocks, id_hint;
	uint32_t free_list[FREE_CLASSES][FREE_CLASSES];
	uint32_t remap_list;
	uint32_t hash[HASH_SLOTS], page[PAGE_SLOTS], page2[PAGE_SLOTS];
};

static void *map(uint64_t bytes, int prot, int flags)
{
	void *p = mmap(NULL, bytes, prot, flags | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

#define SLOT_BYTES align_up((SLOT_TABLES + SLOT_TABLES * SLOTS) * sizeof(uint64_t), KIB(4))

/* The same pages once more, executable, with the slots behind them. Anonymous, so that perf takes names from its map. */
static uint8_t *map_code(struct cache *c)
{
	uint8_t *p = map(c->bytes + SLOT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);

	if (!p)
		return NULL;
	c->slots = (uint64_t *)(p + c->bytes);
	if (mremap(c->write, 0, c->bytes, MREMAP_MAYMOVE | MREMAP_FIXED, p) != MAP_FAILED &&
	    !mprotect(p, c->bytes, PROT_READ | PROT_EXEC))
		return p;
	munmap(p, c->bytes + SLOT_BYTES);
	return NULL;
}

static int map_all(struct cache *c, struct err *err)
{
	c->write = map(c->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE);
	c->meta = map(c->meta_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);
	c->by_id = map(c->max_blocks * sizeof(*c->by_id), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);
	if (!c->write || !c->meta || !c->by_id)
		return err_set(err, ENOMEM, "the host gives no memory for translated code (%lu MiB)", c->bytes >> 20);
	c->exec = map_code(c);
	if (!c->exec)
		return err_set(err, EPERM, "the host does not allow executable memory (a security policy?)");
	return 0;
}

static void unmap(void *p, uint64_t bytes)
{
	if (p)
		munmap(p, bytes);
}

void cache_free(struct bt *bt)
{
	struct cache *c = bt->cache;

	if (!c)
		return;
	unmap(c->write, c->bytes);
	unmap(c->exec, c->bytes + SLOT_BYTES);
	unmap(c->meta, c->meta_bytes);
	unmap(c->by_id, c->max_blocks * sizeof(*c->by_id));
	unmap(c, sizeof(*c));
	bt->cache = NULL;
}

static void init_slots(struct bt *bt)
{
	const struct mmu *m = &bt->v->mmu;
	uint64_t *s = bt->cache->slots;

	for (unsigned t = 0; t < SLOT_TABLES; t++) {
		s[t] = (uint64_t)(t & 1 ? m->write[t / 2] : m->read[t / 2]);
		for (unsigned i = 0; i < SLOTS; i++)
			s[SLOT_TABLES + t * SLOTS + i] = s[t];
	}
}

int cache_new(struct bt *bt, struct err *err)
{
	struct cache *c = map(sizeof(*c), PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int rc;

	if (!c)
		return err_set(err, ENOMEM, "out of host memory");
	bt->cache = c;
	c->bytes = align_down(bt->config->cache_bytes, SEGMENTS * KIB(4));
	c->meta_bytes = c->bytes / META_SHARE;
	c->segment_bytes = (uint32_t)(c->bytes / SEGMENTS);
	c->segment_meta = (uint32_t)(c->meta_bytes / SEGMENTS);
	c->max_blocks = (uint32_t)(c->bytes / CODE_ALIGN) + 2;
	c->id_hint = 1;
	c->use[0].code = STUB_ROOM;
	rc = map_all(c, err);
	if (rc)
		cache_free(bt);
	else
		init_slots(bt);
	return rc;
}

uint32_t cache_new_slot(struct bt *bt, unsigned mmu_mode, bool write)
{
	unsigned table = mmu_mode * 2 + write;

	return table * SLOTS + bt->cache->next_slot[table]++ % SLOTS;
}

uint64_t cache_slot(const struct bt *bt, uint32_t slot)
{
	return (uint64_t)&bt->cache->slots[SLOT_TABLES + slot];
}

uint64_t cache_slot_table(const struct bt *bt, uint32_t slot)
{
	return (uint64_t)&bt->cache->slots[slot / SLOTS];
}

struct block *cache_block(const struct bt *bt, uint32_t id)
{
	return bt->cache->by_id[id];
}

uint64_t cache_exec(const struct bt *bt, uint32_t code_off)
{
	return (uint64_t)bt->cache->exec + code_off;
}

const uint8_t *cache_write_ptr(const struct bt *bt, uint32_t code_off)
{
	return bt->cache->write + code_off;
}

bool cache_contains(const struct bt *bt, uint64_t host)
{
	return host - (uint64_t)bt->cache->exec < bt->cache->bytes;
}

void cache_stub_room(struct bt *bt, struct emitter *e)
{
	e->base = e->p = bt->cache->write;
	e->end = e->base + STUB_ROOM;
}

/* Hash tables and lists */

static uint32_t *hash_slot(struct cache *c, uint64_t gpa)
{
	return &c->hash[gpa * 0x9e3779b97f4a7c15ULL >> 48 & (HASH_SLOTS - 1)];
}

static unsigned page_hash(uint64_t gpa)
{
	return (gpa >> GUEST_PAGE_SHIFT) * 0x9e3779b97f4a7c15ULL >> 40 & (PAGE_SLOTS - 1);
}

static uint32_t *page_slot(struct cache *c, uint64_t gpa)
{
	return &c->page[page_hash(gpa)];
}

static uint32_t *page2_slot(struct cache *c, uint64_t gpa)
{
	return &c->page2[page_hash(gpa)];
}

uint8_t *cache_copy_slot(const struct bt *bt, unsigned slot, uint64_t *exec)
{
	*exec = (uint64_t)bt->cache->exec + COPY_AT + slot * COPY_SLOT_BYTES;
	return bt->cache->write + COPY_AT + slot * COPY_SLOT_BYTES;
}

struct block *cache_find(struct bt *bt, uint64_t gpa, uint64_t va, uint32_t mode)
{
	struct cache *c = bt->cache;

	for (uint32_t id = *hash_slot(c, gpa); id;) {
		struct block *b = c->by_id[id];

		if (b->gpa == gpa && b->mode == mode && b->va == va)
			return b;
		id = b->next;
	}
	return NULL;
}

struct block *cache_find_crossing(struct bt *bt, uint64_t gpa, uint64_t gpa2, uint64_t va, uint32_t mode)
{
	struct cache *c = bt->cache;

	for (uint32_t id = *hash_slot(c, gpa); id;) {
		struct block *b = c->by_id[id];

		if (b->gpa == gpa && b->gpa2 == gpa2 && b->mode == mode && b->va == va)
			return b;
		id = b->next;
	}
	return NULL;
}

static void unhash(struct cache *c, struct block *b)
{
	uint32_t *p = hash_slot(c, b->gpa);

	while (*p && *p != b->id)
		p = &c->by_id[*p]->next;
	if (*p)
		*p = b->next;
	p = page_slot(c, b->gpa);
	while (*p && *p != b->id)
		p = &c->by_id[*p]->page_next;
	if (*p)
		*p = b->page_next;
	if (b->gpa2 == NO_PAGE)
		return;
	p = page2_slot(c, b->gpa2);
	while (*p && *p != b->id)
		p = &c->by_id[*p]->page2_next;
	if (*p)
		*p = b->page2_next;
}

/* Chains */

static struct block_exit *exit_of(struct cache *c, uint32_t ref)
{
	return &block_exits(c->by_id[(ref - 1) / MAX_EXITS])[(ref - 1) % MAX_EXITS];
}

static void patch(struct cache *c, const struct block *b, const struct block_exit *x, uint32_t to)
{
	uint32_t rel = to - (b->code + x->field + 4);

	store_once(c->write + b->code + x->field, 4, rel);
}

/* Blocks that are chained across pages: a list, since mappings may change often, and most blocks are not. */
static void remap_push(struct cache *c, struct block *b)
{
	if (b->on_remap)
		return;
	b->on_remap = true;
	b->list_prev = 0;
	b->list_next = c->remap_list;
	if (c->remap_list)
		c->by_id[c->remap_list]->list_prev = b->id;
	c->remap_list = b->id;
}

static void remap_remove(struct cache *c, struct block *b)
{
	if (!b->on_remap)
		return;
	b->on_remap = false;
	if (b->list_prev)
		c->by_id[b->list_prev]->list_next = b->list_next;
	else
		c->remap_list = b->list_next;
	if (b->list_next)
		c->by_id[b->list_next]->list_prev = b->list_prev;
}

static void unchain(struct cache *c, struct block *b, unsigned exit)
{
	struct block_exit *x = &block_exits(b)[exit];

	if (!x->to)
		return;
	if (x->prev)
		exit_of(c, x->prev)->next = x->next;
	else
		c->by_id[x->to]->incoming = x->next;
	if (x->next)
		exit_of(c, x->next)->prev = x->prev;
	x->to = NO_BLOCK;
	patch(c, b, x, b->code + x->stub);
}

void cache_chain(struct bt *bt, struct block *b, unsigned exit, struct block *to, enum block_entry entry)
{
	struct cache *c = bt->cache;
	struct block_exit *x = &block_exits(b)[exit];
	uint32_t ref = b->id * MAX_EXITS + exit + 1;

	if (x->to && x->guard)
		unchain(c, b, exit); /* it was another key's */
	if (x->to)
		return;
	if (x->guard) {
		uint32_t key = (uint32_t)bt->key[b->mode & MODE_MMU];

		memcpy(c->write + b->code + x->guard, &key, 4);
	}
	if (!x->in_page && !x->guard)
		remap_push(c, b);
	x->to = to->id;
	x->prev = 0;
	x->next = to->incoming;
	if (x->next)
		exit_of(c, x->next)->prev = ref;
	to->incoming = ref;
	patch(c, b, x, to->code + to->entry[entry]);
	bt->stat[STAT_LINKS]++;
}

static void forget_jump(struct bt *bt, const struct block *b, unsigned slot)
{
	uint64_t from = cache_exec(bt, b->code), to = from + b->code_len;

	for (unsigned way = 0; way < 2; way++, slot += JUMP_SLOTS)
		if (bt->jump[slot].host >= from && bt->jump[slot].host < to)
			jump_clear(bt, slot);
}

/* A floating block is in the jump table under any of the linear addresses that it ran at: the low 12 bits are known. */
static void forget_jumps(struct bt *bt, const struct block *b)
{
	if (!block_floats(b->mode)) {
		forget_jump(bt, b, jump_slot(b->va));
		return;
	}
	for (unsigned i = 0; i < JUMP_SLOTS << JUMP_SHIFT; i += GUEST_PAGE_SIZE)
		forget_jump(bt, b, jump_slot(i + (b->gpa & (GUEST_PAGE_SIZE - 1))));
}

static void detach(struct bt *bt, struct block *b)
{
	struct cache *c = bt->cache;

	unhash(c, b);
	remap_remove(c, b);
	while (b->incoming) {
		uint32_t ref = b->incoming - 1;

		unchain(c, c->by_id[ref / MAX_EXITS], ref % MAX_EXITS);
	}
	for (unsigned i = 0; i < b->n_exits; i++)
		unchain(c, b, i);
}

/* The list of dead blocks of one size in both respects: any of them will do. The first is of all that are larger. */
static uint32_t *free_list(struct cache *c, uint32_t code_room, uint32_t meta_room)
{
	unsigned code = code_room / CODE_ALIGN, meta = meta_room / META_ALIGN;

	return code < FREE_CLASSES && meta < FREE_CLASSES ? &c->free_list[code][meta] : &c->free_list[0][0];
}

static void free_push(struct cache *c, struct block *b)
{
	uint32_t *head = free_list(c, b->code_room, b->meta_room);

	b->list_prev = 0;
	b->list_next = *head;
	if (*head)
		c->by_id[*head]->list_prev = b->id;
	*head = b->id;
}

static void free_remove(struct cache *c, struct block *b)
{
	if (b->list_prev)
		c->by_id[b->list_prev]->list_next = b->list_next;
	else
		*free_list(c, b->code_room, b->meta_room) = b->list_next;
	if (b->list_next)
		c->by_id[b->list_next]->list_prev = b->list_prev;
}

void cache_kill(struct bt *bt, struct block *b)
{
	if (b->dead)
		return;
	detach(bt, b);
	forget_jumps(bt, b);
	b->dead = true;
	free_push(bt->cache, b);
	bt->stat[STAT_INVALIDATED]++;
}

void cache_supervisor_remapped(struct bt *bt)
{
	struct cache *c = bt->cache;

	while (c->remap_list) {
		struct block *b = c->by_id[c->remap_list];

		remap_remove(c, b);
		for (unsigned i = 0; i < b->n_exits; i++)
			if (!block_exits(b)[i].in_page && !block_exits(b)[i].guard)
				unchain(c, b, i);
	}
}

void cache_keys_reused(struct bt *bt)
{
	struct cache *c = bt->cache;

	for (uint32_t id = 1; id < c->max_blocks; id++)
		for (unsigned i = 0; c->by_id[id] && i < c->by_id[id]->n_exits; i++)
			if (block_exits(c->by_id[id])[i].guard)
				unchain(c, c->by_id[id], i);
}

static void note_eviction(struct bt *bt, uint64_t start)
{
	bt->stat[STAT_EVICTION] = max_u64(bt->stat[STAT_EVICTION], __builtin_ia32_rdtsc() - start);
}

static void evict_segment(struct bt *bt, uint32_t s)
{
	struct cache *c = bt->cache;
	uint8_t *p = c->meta + (uint64_t)s * c->segment_meta, *end = p + c->use[s].meta;
	uint64_t from = cache_exec(bt, s * c->segment_bytes), to = from + c->segment_bytes;
	uint64_t start = __builtin_ia32_rdtsc();
	uint32_t room;

	if (p == end)
		return;
	for (; p < end; p += room) {
		struct block *b = (struct block *)p;

		room = b->meta_room;
		if (b->dead)
			free_remove(c, b);
		else
			detach(bt, b);
		b->dead = true;
		c->by_id[b->id] = NULL;
		bt->stat[STAT_EVICTED]++;
	}
	for (unsigned i = 0; i < 2 * JUMP_SLOTS; i++)
		if (bt->jump[i].host >= from && bt->jump[i].host < to)
			jump_clear(bt, i);
	c->use[s] = (struct segment_use){.code = s ? 0 : STUB_ROOM};
	c->id_hint = 1;
	note_eviction(bt, start);
}

void cache_drop_all(struct bt *bt)
{
	uint64_t start = __builtin_ia32_rdtsc();

	for (uint32_t s = 0; s < SEGMENTS; s++)
		evict_segment(bt, s);
	bt->cache->current = 0;
	note_eviction(bt, start);
}

/* Allocation */

static uint32_t new_id(struct cache *c)
{
	for (uint32_t n = 0; n < c->max_blocks; n++) {
		uint32_t id = c->id_hint++;

		if (c->id_hint >= c->max_blocks)
			c->id_hint = 1;
		if (id && !c->by_id[id])
			return id;
	}
	return 0;
}

/*
 * All of a segment's pages at once, for a fraction of what faults would cost; a host that cannot just takes the faults.
 * Of the blocks' most of the time not all are used.
 */
static void populate(struct cache *c, uint32_t s)
{
	uint64_t code = (uint64_t)s * c->segment_bytes, meta = (uint64_t)s * c->segment_meta;

	(void)madvise(c->write + code, c->segment_bytes, MADV_POPULATE_WRITE);
	(void)madvise(c->exec + code, c->segment_bytes, MADV_POPULATE_READ);
	(void)madvise(c->meta + meta, align_down(c->segment_meta / 4 * 3, KIB(4)), MADV_POPULATE_WRITE);
}

/* A dead block of just this size */
static struct block *reuse(struct cache *c, uint32_t code_room, uint32_t meta_room)
{
	const uint32_t *list = free_list(c, code_room, meta_room);
	struct block *b;

	if (!*list || list == &c->free_list[0][0])
		return NULL;
	b = c->by_id[*list];
	free_remove(c, b);
	return b;
}

static struct block *allocate(struct bt *bt, uint32_t code_room, uint32_t meta_room)
{
	struct cache *c = bt->cache;
	struct block *b = reuse(c, code_room, meta_room);
	struct segment_use *u;
	uint32_t id, s = c->current;

	if (b)
		return b;
	u = &c->use[s];
	if (u->code + code_room > c->segment_bytes || u->meta + meta_room > c->segment_meta) {
		s = c->current = (c->current + 1) % SEGMENTS;
		evict_segment(bt, s);
		populate(c, s);
		u = &c->use[s];
		if (u->code + code_room > c->segment_bytes || u->meta + meta_room > c->segment_meta)
			return NULL;
	}
	id = new_id(c);
	if (!id)
		return NULL;
	b = (struct block *)(c->meta + (uint64_t)s * c->segment_meta + u->meta);
	c->by_id[id] = b;
	b->id = id;
	b->code = s * c->segment_bytes + u->code;
	b->code_room = code_room;
	b->meta_room = meta_room;
	u->code += code_room;
	u->meta += meta_room;
	return b;
}

static void fix_up(struct bt *bt, const struct block *b, const struct draft *d)
{
	struct cache *c = bt->cache;

	memcpy(c->write + b->code, d->e.base, b->code_len);
	for (unsigned i = 0; i < d->n_fixups; i++) {
		uint32_t field = b->code + d->fixup[i].field;
		uint32_t rel = (uint32_t)(d->fixup[i].host - cache_exec(bt, field + 4));

		memcpy(c->write + field, &rel, 4);
	}
	for (unsigned i = 0; i < d->n_ids; i++)
		memcpy(c->write + b->code + d->id_field[i], &b->id, 4);
	for (unsigned i = 0; i < d->n_shorts; i++) {
		uint8_t *field = c->write + b->code + d->short_field[i];
		uint32_t arg = short_arg(b->id, *field);

		memcpy(field, &arg, 4);
	}
}

struct block *cache_commit(struct bt *bt, const struct draft *d)
{
	struct cache *c = bt->cache;
	uint32_t exits = d->b.n_exits * (uint32_t)sizeof(d->exit[0]);
	uint32_t insns = (d->b.n_insns + 1u) * (uint32_t)sizeof(d->insn[0]);
	uint32_t operands = d->b.n_insns * (uint32_t)sizeof(d->operand_off[0]);
	uint32_t slots = d->b.n_insns * (uint32_t)sizeof(d->slot[0]);
	uint32_t meta = (uint32_t)align_up(sizeof(struct block) + exits + insns + slots + operands + d->b.n_insns, META_ALIGN);
	struct block *b = allocate(bt, (uint32_t)align_up(emit_at(&d->e), CODE_ALIGN), meta);
	struct block keep;

	if (!b)
		return NULL;
	keep = *b;
	*b = d->b;
	b->id = keep.id;
	b->code = keep.code;
	b->code_room = keep.code_room;
	b->meta_room = keep.meta_room;
	b->code_len = emit_at(&d->e);
	b->insn = (struct block_insn *)(block_exits(b) + b->n_exits);
	memcpy(block_exits(b), d->exit, exits);
	memcpy(b->insn, d->insn, insns);
	memcpy(block_slots(b), d->slot, slots);
	memcpy(block_operands(b), d->operand_off, operands);
	memcpy(block_operand_r10(b), d->operand_r10, d->b.n_insns);
	fix_up(bt, b, d);
	b->next = *hash_slot(c, b->gpa);
	*hash_slot(c, b->gpa) = b->id;
	b->page_next = *page_slot(c, b->gpa);
	*page_slot(c, b->gpa) = b->id;
	if (b->gpa2 != NO_PAGE) {
		b->page2_next = *page2_slot(c, b->gpa2);
		*page2_slot(c, b->gpa2) = b->id;
	}
	return b;
}

/* For an instruction that runs out of its block: where it stands there. */
static uint64_t copied_from(const struct bt *bt, uint64_t host)
{
	uint64_t off = host - (uint64_t)bt->cache->exec - COPY_AT;

	if (off >= COPY_SLOTS * COPY_SLOT_BYTES)
		return host;
	return bt->copy[off / COPY_SLOT_BYTES].host + off % COPY_SLOT_BYTES;
}

struct block *cache_block_at(struct bt *bt, uint64_t host, unsigned *insn)
{
	struct cache *c = bt->cache;
	uint64_t off = copied_from(bt, host) - (uint64_t)c->exec;
	uint32_t s = (uint32_t)(off / c->segment_bytes);
	uint8_t *p, *end;

	if (off >= c->bytes) /* of a slot that is empty: a guest can make any pointer */
		return NULL;
	p = c->meta + (uint64_t)s * c->segment_meta;
	end = p + c->use[s].meta;
	for (; p < end; p += ((struct block *)p)->meta_room) {
		struct block *b = (struct block *)p;
		unsigned i = 0;

		if (off < b->code || off >= b->code + b->code_len)
			continue;
		while (i + 1 < b->n_insns && off - b->code >= b->insn[i + 1].host_off)
			i++;
		*insn = i;
		return b;
	}
	return NULL;
}

/* Bytes of the block that lie in its first page. */
static unsigned len_in_page(const struct block *b)
{
	return (unsigned)min_u64(b->len, GUEST_PAGE_SIZE - (b->gpa & (GUEST_PAGE_SIZE - 1)));
}

/* The block, of which len bytes lie at gpa in the page, goes, or stays: then its lines. */
static uint64_t lines_left(struct bt *bt, struct block *b, uint64_t gpa, unsigned len, uint64_t from, uint64_t to)
{
	if (gpa < to && from < gpa + len) {
		cache_kill(bt, b);
		return 0;
	}
	return code_lines_of(gpa, len);
}

/* Drops what overlaps the write. */
uint64_t cache_wrote(struct bt *bt, uint64_t gpa, uint64_t len)
{
	struct cache *c = bt->cache;
	uint64_t page = align_down(gpa, GUEST_PAGE_SIZE), to = gpa + len, left = 0;

	for (uint32_t id = *page_slot(c, page); id;) {
		struct block *b = c->by_id[id];

		id = b->page_next;
		if (align_down(b->gpa, GUEST_PAGE_SIZE) == page)
			left |= lines_left(bt, b, b->gpa, len_in_page(b), gpa, to);
	}
	for (uint32_t id = *page2_slot(c, page); id;) {
		struct block *b = c->by_id[id];

		id = b->page2_next;
		if (b->gpa2 == page)
			left |= lines_left(bt, b, page, b->len - len_in_page(b), gpa, to);
	}
	return left;
}
