/* A graph that was trained on images and sounds names one and makes them; and what must not harm the library there.
 *
 *     media MODEL FOLDER TEXT_MODEL
 *
 * FOLDER/light.pgm and FOLDER/light.wav are of the word "light". Leaves FOLDER/made.pgm: the image that follows the word. */
#include "expect.h"

int main(int argc, char **argv) {
    if (argc != 4) {
        return 2;
    }
    brillm_model *model = NULL, *other = NULL;
    EXPECT(brillm_model_open(argv[1], NULL, &model, NULL) == BRILLM_OK);
    EXPECT(brillm_model_open(argv[3], NULL, &other, NULL) == BRILLM_OK);
    char file[600], sound[600], made[600];
    snprintf(file, sizeof file, "%s/light.pgm", argv[2]);
    snprintf(sound, sizeof sound, "%s/light.wav", argv[2]);
    snprintf(made, sizeof made, "%s/made.pgm", argv[2]);

    /* The image is named. */
    uint32_t ids[64];
    size_t count = 0;
    EXPECT(brillm_model_tokenize_file(model, BRILLM_MODALITY_IMAGE, file, NULL, 0, &count, NULL) == BRILLM_OK);
    EXPECT(count > 3 && count <= 64);
    EXPECT(brillm_model_tokenize_file(model, BRILLM_MODALITY_IMAGE, file, ids, 64, &count, NULL) == BRILLM_OK);
    brillm_session *session = NULL;
    brillm_parameters naming = {.struct_size = sizeof naming, .tokens = 8};
    EXPECT(brillm_session_new(model, &naming, &session, NULL) == BRILLM_OK);
    EXPECT(brillm_session_begin(session, ids, count, NULL) == BRILLM_OK);
    char text[200] = "";
    brillm_piece piece = {.struct_size = sizeof piece};
    while (brillm_session_next(session, &piece, NULL) == BRILLM_OK) {
        strncat(text, piece.text, sizeof text - strlen(text) - 1);
    }
    EXPECT(strstr(text, "light") != NULL);
    brillm_session_release(session);

    /* An image follows the word. */
    brillm_parameters making = {.struct_size = sizeof making, .modality = BRILLM_MODALITY_IMAGE};
    EXPECT(brillm_session_new(model, &making, &session, NULL) == BRILLM_OK);
    EXPECT(brillm_session_generate(session, "light", BRILLM_TERMINATED, NULL, NULL, NULL, NULL) == BRILLM_OK);
    const uint32_t *codes = brillm_session_tokens(session, &count);
    EXPECT(codes != NULL && count == 4);
    EXPECT(brillm_model_write_file(model, BRILLM_MODALITY_IMAGE, codes, count, made, NULL) == BRILLM_OK);
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_write_file(model, BRILLM_MODALITY_IMAGE, codes, 1, made, &error), "code");
    brillm_session_release(session);

    /* A sound that may not end has 512 codes, unless the caller names a number. */
    EXPECT(brillm_model_tokenize_file(model, BRILLM_MODALITY_AUDIO, sound, ids, 64, &count, NULL) == BRILLM_OK);
    brillm_parameters speaking;
    EXPECT(brillm_parameters_init(&speaking, sizeof speaking) == BRILLM_OK);
    speaking.modality = BRILLM_MODALITY_AUDIO;
    speaking.banned = &ids[count - 1];
    speaking.banned_count = 1;
    const uint64_t most[] = {0, 7}, expected[] = {512, 7};
    for (int i = 0; i < 2; i += 1) {
        speaking.tokens = most[i];
        EXPECT(brillm_session_new(model, &speaking, &session, NULL) == BRILLM_OK);
        EXPECT(brillm_session_generate(session, "light", BRILLM_TERMINATED, NULL, NULL, NULL, NULL) == BRILLM_OK);
        EXPECT(brillm_session_tokens(session, &count) != NULL && count == expected[i]);
        EXPECT(brillm_session_finish(session) == BRILLM_FINISH_LENGTH);
        brillm_session_release(session);
    }

    /* Misuse. */
    REFUSED(BRILLM_ERROR_NULL, brillm_model_tokenize_file(NULL, 1, file, ids, 64, &count, &error), "model");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_tokenize_file(model, 1, NULL, ids, 64, &count, &error), "path");
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_tokenize_file(model, 0, file, ids, 64, &count, &error), "modality 0");
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_tokenize_file(model, 3, file, ids, 64, &count, &error), "modality 3");
    REFUSED(BRILLM_ERROR_BUFFER, brillm_model_tokenize_file(model, 1, file, ids, 1, &count, &error), "");
    REFUSED(BRILLM_ERROR_UNSUPPORTED, brillm_model_tokenize_file(other, 1, file, ids, 64, &count, &error), "images");
    REFUSED(BRILLM_ERROR_UNSUPPORTED, brillm_model_tokenize_file(other, 2, file, ids, 64, &count, &error), "sounds");
    ids[0] = UINT32_MAX;
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_write_file(model, 1, ids, 1, made, &error), "token");
    making.modality = 9;
    REFUSED(BRILLM_ERROR_INPUT, brillm_session_new(model, &making, &session, &error), "modality 9");
    brillm_model_release(other);
    brillm_model_release(model);
    printf("%d faults\n", faults);
    return 0;
}
