/* What must not harm the library: NULL everywhere, sizes of other versions, small buffers, calls from callbacks, bytes
 * that are not text, files that are not models. border MODEL FOLDER */
#include "expect.h"

#include <stdlib.h>

struct again {
    brillm_session *session;
    int calls;
};

static int32_t call_again(void *user, const brillm_piece *piece) {
    struct again *again = user;
    again->calls++;
    EXPECT(piece->struct_size == sizeof *piece);
    EXPECT(strlen(piece->text) == piece->length);
    REFUSED(BRILLM_ERROR_BUSY, brillm_session_next(again->session, NULL, &error), "another call");
    EXPECT(brillm_session_text(again->session, NULL) == NULL);
    return BRILLM_GO_ON;
}

static int32_t let_go(void *user, const brillm_piece *piece) {
    (void)piece;
    brillm_session_release(*(brillm_session **)user);
    *(brillm_session **)user = NULL;
    return BRILLM_STOP;
}

static void nothing_given(const brillm_model *model, brillm_session *session) {
    brillm_model *no_model = NULL;
    brillm_session *no_session = NULL;
    REFUSED(BRILLM_ERROR_NULL, brillm_model_open(NULL, NULL, &no_model, &error), "path");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_open("x", NULL, NULL, &error), "out");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_open_bytes(NULL, 9, &no_model, &error), "bytes");
    REFUSED(BRILLM_ERROR_NULL, brillm_session_new(NULL, NULL, &no_session, &error), "model");
    REFUSED(BRILLM_ERROR_NULL, brillm_session_new(model, NULL, NULL, &error), "out");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_describe(NULL, NULL, &error), "model");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_describe(model, NULL, &error), "info");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_tokenize(model, NULL, BRILLM_TERMINATED, NULL, 0, NULL, &error), "text");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_tokenize(model, NULL, 3, NULL, 0, NULL, &error), "text");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_tokenize(model, "ab", 2, NULL, 0, NULL, &error), "buffer and length");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_tokenize(model, "ab", 2, NULL, 9, NULL, &error), "buffer");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_detokenize(model, NULL, 2, NULL, 0, NULL, &error), "ids");
    REFUSED(BRILLM_ERROR_NULL, brillm_session_generate(NULL, "a", 1, NULL, NULL, NULL, &error), "session");
    REFUSED(BRILLM_ERROR_NULL, brillm_session_generate(session, NULL, 1, NULL, NULL, NULL, &error), "text");
    REFUSED(BRILLM_ERROR_NULL, brillm_session_begin(session, NULL, 1, &error), "ids");
    REFUSED(BRILLM_ERROR_NULL, brillm_session_score(session, NULL, 3, NULL, NULL, &error), "ids");
    REFUSED(BRILLM_ERROR_NULL, brillm_session_restore(session, NULL, 3, &error), "bytes");
    EXPECT(brillm_session_next(NULL, NULL, NULL) == BRILLM_ERROR_NULL);
    EXPECT(brillm_parameters_init(NULL, 8) == BRILLM_ERROR_NULL);
    EXPECT(brillm_session_text(NULL, NULL) == NULL && brillm_session_tokens(NULL, NULL) == NULL);
    EXPECT(brillm_session_finish(NULL) == BRILLM_FINISH_NONE);
    EXPECT(strcmp(brillm_model_name(NULL), "") == 0 && strcmp(brillm_model_metadata(NULL), "{}") == 0);
    EXPECT(brillm_model_retain(NULL) == NULL && brillm_session_retain(NULL) == NULL);
    EXPECT(brillm_error_status(NULL) == BRILLM_OK && strcmp(brillm_error_message(NULL), "") == 0);
    brillm_session_cancel(NULL);
    brillm_model_release(NULL);
    brillm_session_release(NULL);
    brillm_error_free(NULL);
}

static void other_versions(const brillm_model *model) {
    /* An older caller's struct has fewer fields; a later one's more. */
    struct {
        brillm_parameters known;
        uint64_t later;
    } future;
    memset(&future, 0xff, sizeof future);
    EXPECT(brillm_parameters_init(&future.known, sizeof future) == BRILLM_OK);
    EXPECT(future.known.struct_size == sizeof future && future.later == 0 && future.known.tokens == 0 && future.known.penalty_window == 64);
    brillm_session *session = NULL;
    EXPECT(brillm_session_new(model, &future.known, &session, NULL) == BRILLM_OK);
    future.later = 1;
    REFUSED(BRILLM_ERROR_VERSION, brillm_session_configure(session, &future.known, &error), "brillm_parameters");
    future.known.struct_size = 0;
    REFUSED(BRILLM_ERROR_INPUT, brillm_session_configure(session, &future.known, &error), "struct_size");
    EXPECT(brillm_parameters_init(&future.known, 8) == BRILLM_ERROR_INPUT);

    struct {
        brillm_model_info known;
        uint64_t later;
    } info;
    memset(&info, 0xff, sizeof info);
    info.known.struct_size = sizeof info;
    EXPECT(brillm_model_describe(model, &info.known, NULL) == BRILLM_OK);
    EXPECT(info.known.struct_size == sizeof info && info.later == 0 && info.known.kind == BRILLM_KIND_GRAPH);
    info.known.struct_size = 8;
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_describe(model, &info.known, &error), "brillm_model_info");
    brillm_session_release(session);

    EXPECT(brillm_abi_version() == ((uint64_t)BRILLM_ABI_MAJOR << 32 | BRILLM_ABI_MINOR));
    EXPECT(strchr(brillm_version(), '.') != NULL);
}

static void wrong_values(const brillm_model *model, brillm_session *session, const char *model_path, const char *folder) {
    brillm_model *none = NULL;
    char path[4096];
    snprintf(path, sizeof path, "%s/absent.bril", folder);
    REFUSED(BRILLM_ERROR_IO, brillm_model_open(path, NULL, &none, &error), "absent.bril");
    snprintf(path, sizeof path, "%s/damaged.bril", folder);
    REFUSED(BRILLM_ERROR_CHECKSUM, brillm_model_open(path, NULL, &none, &error), "damaged.bril");
    REFUSED(BRILLM_ERROR_FORMAT, brillm_model_open_bytes("no model", 8, &none, &error), "");
    EXPECT(none == NULL);
    brillm_open_options options = {.struct_size = sizeof options, .verify = 9};
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_open(path, &options, &none, &error), "verify");
    options = (brillm_open_options){.struct_size = sizeof options, .order = 3};
    snprintf(path, sizeof path, "%s", model_path);
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_open(path, &options, &none, &error), "order 3");
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_tokenize(model, "a\xff", 2, NULL, 0, NULL, &error), "byte 1");

    const uint32_t outside = 99;
    const char *empty = "";
    brillm_parameters parameters = {.struct_size = sizeof parameters, .temperature = -1.0};
    REFUSED(BRILLM_ERROR_INPUT, brillm_session_configure(session, &parameters, &error), "temperature");
    parameters = (brillm_parameters){.struct_size = sizeof parameters, .stops = &empty, .stop_count = 1};
    REFUSED(BRILLM_ERROR_INPUT, brillm_session_configure(session, &parameters, &error), "stops[0]");
    parameters = (brillm_parameters){.struct_size = sizeof parameters, .banned = &outside, .banned_count = 1};
    REFUSED(BRILLM_ERROR_INPUT, brillm_session_configure(session, &parameters, &error), "99");
    REFUSED(BRILLM_ERROR_INPUT, brillm_session_next(session, NULL, &error), "begin");
    REFUSED(BRILLM_ERROR_INPUT, brillm_session_begin(session, &outside, 1, &error), "99");
    REFUSED(BRILLM_ERROR_INPUT, brillm_session_begin(session, NULL, 0, &error), "empty");
    REFUSED(BRILLM_ERROR_INPUT, brillm_session_score_text(session, "a", 1, NULL, &error), "predict");
    REFUSED(BRILLM_ERROR_FORMAT, brillm_session_restore(session, "{}", 2, &error), "saved session");

    char small[2];
    size_t length = 0;
    const uint32_t ids[3] = {1, 2, 3};
    REFUSED(BRILLM_ERROR_BUFFER, brillm_model_detokenize(model, ids, 3, small, 2, &length, &error), "needed");
    char large[8];
    EXPECT(brillm_model_detokenize(model, ids, 3, large, length + 1, NULL, NULL) == BRILLM_OK);
    EXPECT(length == 3 && strlen(large) == 3);
}

static void steering(const brillm_model *model, brillm_session *session) {
    brillm_piece piece = {.struct_size = sizeof piece}, again = piece;
    brillm_candidate candidates[64];
    size_t total = 0, length = 0;
    double nats = 0.0, logarithms[4];
    EXPECT(brillm_session_begin_text(session, "abc", BRILLM_TERMINATED, NULL) == BRILLM_OK);
    EXPECT(brillm_session_candidates(session, candidates, 64, &total, NULL) == BRILLM_OK);
    EXPECT(total > 1 && candidates[0].probability >= candidates[1].probability);
    EXPECT(candidates[0].edge >= BRILLM_EDGE_OWN && candidates[0].edge <= BRILLM_EDGE_SHARED);
    double sum = 0.0;
    for (size_t place = 0; place < total; place++) {
        sum += candidates[place].probability;
    }
    EXPECT(sum > 0.99999 && sum < 1.00001);
    /* Injected energy makes the least likely one the likeliest. */
    const uint32_t last = candidates[total - 1].id;
    EXPECT(brillm_session_inject(session, last, 1e6, NULL) == BRILLM_OK);
    EXPECT(brillm_session_next(session, &piece, NULL) == BRILLM_OK && piece.id == last && piece.index == 0);

    /* The same state goes on in another session in the same way. */
    EXPECT(brillm_session_save(session, NULL, 0, &length, NULL) == BRILLM_OK && length > 0);
    char *saved = malloc(length);
    EXPECT(saved != NULL && brillm_session_save(session, saved, length, NULL, NULL) == BRILLM_OK);
    brillm_session *other = NULL;
    EXPECT(brillm_session_new(model, NULL, &other, NULL) == BRILLM_OK);
    EXPECT(brillm_session_restore(other, saved, length, NULL) == BRILLM_OK);
    for (int step = 0; step < 5; step++) {
        EXPECT(brillm_session_next(session, &piece, NULL) == BRILLM_OK);
        EXPECT(brillm_session_next(other, &again, NULL) == BRILLM_OK && piece.id == again.id);
    }
    free(saved);

    /* Given tokens are walked, and the resistance of a text is the score's. */
    const uint32_t ids[4] = {0, 1, 2, 3};
    brillm_score score = {.struct_size = sizeof score};
    EXPECT(brillm_session_score(session, ids, 4, logarithms, &score, NULL) == BRILLM_OK);
    EXPECT(score.tokens == 3 && score.bytes == 3 && logarithms[0] == 0.0);
    EXPECT(brillm_session_begin(other, ids, 1, NULL) == BRILLM_OK);
    EXPECT(brillm_session_feed(other, ids + 1, 2, NULL) == BRILLM_OK);
    EXPECT(brillm_session_resistance(other, 3, &nats, NULL) == BRILLM_OK);
    EXPECT(nats == -logarithms[3] && nats > 0.0);
    brillm_session_release(other);
}

static int32_t end_it(void *user, const brillm_piece *piece) {
    (void)piece;
    brillm_session_cancel(user);
    return BRILLM_GO_ON;
}

/* Every reason to end. */
static void endings(const brillm_model *model) {
    brillm_session *session = NULL;
    brillm_outcome outcome = {.struct_size = sizeof outcome};
    brillm_parameters parameters = {.struct_size = sizeof parameters, .tokens = 9};
    EXPECT(brillm_session_new(model, &parameters, &session, NULL) == BRILLM_OK);
    /* A cancellation ends what is under way, nothing that begins later. */
    brillm_session_cancel(session);
    EXPECT(brillm_session_generate(session, "abc", 3, NULL, NULL, &outcome, NULL) == BRILLM_OK);
    EXPECT(outcome.finish == BRILLM_FINISH_LENGTH && outcome.tokens == 9 && outcome.prompt_tokens == 3);
    size_t length = 0;
    char whole[16] = "", stop[3] = "";
    const char *text = brillm_session_text(session, &length);
    EXPECT(length == 9 && strlen(text) == 9);
    memcpy(whole, text, 10);
    memcpy(stop, whole + 4, 2);

    const char *stops[2] = {"never", stop};
    parameters.stops = stops;
    parameters.stop_count = 2;
    EXPECT(brillm_session_configure(session, &parameters, NULL) == BRILLM_OK);
    stop[0] = 'X'; /* the session has read it already */
    EXPECT(brillm_session_generate(session, "abc", 3, NULL, NULL, &outcome, NULL) == BRILLM_OK);
    text = brillm_session_text(session, &length);
    stop[0] = whole[4];
    EXPECT(outcome.finish == BRILLM_FINISH_STOP && length <= 4);
    EXPECT(strncmp(text, whole, length) == 0 && strncmp(whole + length, stop, 2) == 0);

    uint32_t all[12];
    for (uint32_t id = 0; id < 12; id++) {
        all[id] = id;
    }
    parameters = (brillm_parameters){.struct_size = sizeof parameters, .banned = all, .banned_count = 12};
    EXPECT(brillm_session_configure(session, &parameters, NULL) == BRILLM_OK);
    EXPECT(brillm_session_generate(session, "abc", 3, NULL, NULL, &outcome, NULL) == BRILLM_OK);
    EXPECT(outcome.finish == BRILLM_FINISH_EXHAUSTED && outcome.tokens == 0);

    parameters = (brillm_parameters){.struct_size = sizeof parameters, .tokens = BRILLM_UNLIMITED};
    EXPECT(brillm_session_configure(session, &parameters, NULL) == BRILLM_OK);
    EXPECT(brillm_session_generate(session, "abc", 3, end_it, session, &outcome, NULL) == BRILLM_OK);
    EXPECT(outcome.finish == BRILLM_FINISH_CANCELLED && outcome.tokens == 1);
    brillm_piece piece = {.struct_size = sizeof piece};
    EXPECT(brillm_session_next(session, &piece, NULL) == BRILLM_END);
    EXPECT(brillm_session_begin_text(session, "abc", 3, NULL) == BRILLM_OK);
    brillm_session_cancel(session);
    EXPECT(brillm_session_feed(session, all, 12, NULL) == BRILLM_ERROR_CANCELLED);
    EXPECT(brillm_session_next(session, &piece, NULL) == BRILLM_END);
    EXPECT(brillm_session_finish(session) == BRILLM_FINISH_CANCELLED);

    /* Truncation to one token is the greedy choice, whatever the temperature. */
    parameters = (brillm_parameters){.struct_size = sizeof parameters, .tokens = 9, .temperature = 5.0, .top_k = 1};
    EXPECT(brillm_session_configure(session, &parameters, NULL) == BRILLM_OK);
    EXPECT(brillm_session_generate(session, "abc", 3, NULL, NULL, NULL, NULL) == BRILLM_OK);
    EXPECT(strcmp(brillm_session_text(session, NULL), whole) == 0);
    parameters = (brillm_parameters){.struct_size = sizeof parameters, .tokens = 9, .temperature = 5.0, .min_p = 1.0};
    EXPECT(brillm_session_configure(session, &parameters, NULL) == BRILLM_OK);
    EXPECT(brillm_session_generate(session, "abc", 3, NULL, NULL, NULL, NULL) == BRILLM_OK);
    EXPECT(strcmp(brillm_session_text(session, NULL), whole) == 0);
    parameters = (brillm_parameters){.struct_size = sizeof parameters, .tokens = 9, .temperature = 5.0, .top_p = 1e-6};
    EXPECT(brillm_session_configure(session, &parameters, NULL) == BRILLM_OK);
    EXPECT(brillm_session_generate(session, "abc", 3, NULL, NULL, NULL, NULL) == BRILLM_OK);
    EXPECT(strcmp(brillm_session_text(session, NULL), whole) == 0);
    brillm_session_release(session);
}

/* A model that lies in memory is the same model. */
static void in_memory(const char *path) {
    FILE *file = fopen(path, "rb");
    EXPECT(file != NULL);
    if (file == NULL) {
        return;
    }
    fseek(file, 0, SEEK_END);
    const size_t size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(size);
    EXPECT(bytes != NULL && fread(bytes, 1, size, file) == size);
    fclose(file);
    brillm_model *model = NULL;
    EXPECT(brillm_model_open_bytes(bytes, size, &model, NULL) == BRILLM_OK);
    free(bytes);
    EXPECT(strcmp(brillm_model_name(model), "small") == 0);
    brillm_model_release(model);
}

int main(int count, char **arguments) {
    if (count != 3) {
        return 2;
    }
    brillm_model *model = NULL;
    brillm_session *session = NULL;
    brillm_open_options options = {.struct_size = sizeof options, .verify = BRILLM_VERIFY_WHOLE};
    EXPECT(brillm_model_open(arguments[1], &options, &model, NULL) == BRILLM_OK);
    EXPECT(strcmp(brillm_model_name(model), "small") == 0);
    brillm_model_info info = {.struct_size = sizeof info};
    EXPECT(brillm_model_describe(model, &info, NULL) == BRILLM_OK);
    EXPECT(info.order == 2);
    EXPECT(strstr(brillm_model_metadata(model), "\"license\":\"none\"") != NULL);
    EXPECT(brillm_session_new(model, NULL, &session, NULL) == BRILLM_OK);

    nothing_given(model, session);
    other_versions(model);
    wrong_values(model, session, arguments[1], arguments[2]);
    steering(model, session);
    endings(model);
    in_memory(arguments[1]);

    struct again again = {session, 0};
    EXPECT(brillm_session_generate(session, "abc", 3, call_again, &again, NULL, NULL) == BRILLM_OK);
    EXPECT(again.calls == 128 && brillm_session_finish(session) == BRILLM_FINISH_LENGTH);
    size_t tokens = 0;
    EXPECT(brillm_session_tokens(session, &tokens) != NULL && tokens == 0);
    EXPECT(brillm_session_generate(session, "abc", 3, NULL, NULL, NULL, NULL) == BRILLM_OK);
    EXPECT(brillm_session_tokens(session, &tokens) != NULL && tokens == 128);

    /* The model lives on in its sessions, and a session in the call that runs on it. */
    brillm_model_release(model);
    brillm_session *gone = session;
    EXPECT(brillm_session_generate(session, "abc", 3, let_go, &gone, NULL, NULL) == BRILLM_OK);
    EXPECT(gone == NULL);
    printf("%d faults\n", faults);
    return faults == 0 ? 0 : 1;
}
