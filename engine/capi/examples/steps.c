/* A path step by step: tokens of the prompt, candidates with their energies, the score of the whole text.
 *
 *     steps MODEL PROMPT
 */
#include "brillm.h"

#include <stdio.h>
#include <stdlib.h>

#define STEPS 3
#define SHOWN 3

static void check(brillm_status status, brillm_error *error) {
    if (status < 0) {
        fprintf(stderr, "error %d: %s\n", (int)status, brillm_error_message(error));
        brillm_error_free(error);
        exit(1);
    }
}

static void show(const brillm_model *model, uint32_t id) {
    char name[64];
    /* A token with a longer name shows its number. */
    if (brillm_model_display(model, id, name, sizeof name, NULL, NULL) == BRILLM_OK) {
        printf(" %s", name);
    } else {
        printf(" #%u", (unsigned)id);
    }
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: %s MODEL PROMPT\n", arguments[0]);
        return 2;
    }
    brillm_error *error = NULL;
    brillm_model *model = NULL;
    brillm_session *session = NULL;
    check(brillm_model_open(arguments[1], NULL, &model, &error), error);
    check(brillm_session_new(model, NULL, &session, &error), error);

    /* The length first, then the tokens, with room for those to come. */
    size_t tokens = 0;
    check(brillm_model_tokenize(model, arguments[2], BRILLM_TERMINATED, NULL, 0, &tokens, &error), error);
    uint32_t *ids = calloc(tokens + STEPS, sizeof *ids);
    if (ids == NULL) {
        return 1;
    }
    check(brillm_model_tokenize(model, arguments[2], BRILLM_TERMINATED, ids, tokens, &tokens, &error), error);
    check(brillm_session_begin(session, ids, tokens, &error), error);

    for (int step = 0; step < STEPS; step++) {
        brillm_candidate candidates[SHOWN];
        size_t total = 0;
        check(brillm_session_candidates(session, candidates, SHOWN, &total, &error), error);
        printf("step %d, %u candidates\n", step, (unsigned)total);
        for (size_t place = 0; place < SHOWN && place < total; place++) {
            printf("  %.4f  energy %.4f ", candidates[place].probability, candidates[place].energy);
            show(model, candidates[place].id);
            printf("\n");
        }
        brillm_piece piece = {.struct_size = sizeof piece};
        brillm_status status = brillm_session_next(session, &piece, &error);
        check(status, error);
        if (status == BRILLM_END) {
            break;
        }
        ids[tokens++] = piece.id;
    }

    brillm_score score = {.struct_size = sizeof score};
    check(brillm_session_score(session, ids, tokens, NULL, &score, &error), error);
    printf("%u tokens predicted, perplexity %.4f\n", (unsigned)score.tokens, score.perplexity);
    free(ids);
    brillm_session_release(session);
    brillm_model_release(model);
    return 0;
}
